"""Unlearning and audits on a GPU: the same figures as on the processor."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.unlearning import unlearn as module
from edge_sdk.unlearning.audit import audit
from edge_sdk.unlearning.audit.limits import Limits
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.unlearn import Sources

pytestmark = pytest.mark.cuda
SETTINGS = UnlearnConfig(
    max_train_steps=3, forget_batch=4, retain_batch=4, max_retained_similarity=1.0, max_background_change=1.0,
    surrogate="edit", num_surrogates=2, max_target_similarity=1.0,
)  # fmt: skip


@pytest.mark.parametrize("family", ["ddpm", "sd1", "sd2", "sd3"])
@pytest.mark.parametrize("options", [{}, {"lora_rank": 2, "quantization_aware": "int4"}], ids=["weights", "adapters"])
def test_a_gpu_unlearns_what_the_processor_does(
    model_of: dict[str, Path], pictures: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str,
    options: dict[str, object],
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "check_reproducible", lambda *_: None)
    sources = Sources(str(model_of[family]), pictures["forget"], pictures["retain"])
    found = {}
    for device in ("cpu", "cuda"):
        steps = found[device] = []
        config = replace(SETTINGS, device=device, **options)  # type: ignore[arg-type]
        module.unlearn(sources, tmp_path / device, config, progress=steps.append)
    for here, there in zip(found["cpu"], found["cuda"], strict=True):
        assert there.forget_loss == pytest.approx(here.forget_loss, rel=2e-3)
        assert there.retain_loss == pytest.approx(here.retain_loss, rel=2e-3, abs=1e-6)


def test_a_gpu_audits_what_the_processor_does(
    short_audit: None, ddpm_folder: Path, pictures: dict[str, Path], tmp_path: Path
) -> None:
    records = []
    for device in ("cpu", "cuda"):
        folder = tmp_path / device
        audit.audit(str(ddpm_folder), str(ddpm_folder), pictures["forget"], pictures["held_out"], folder,
                    Limits(), count=8, device=device)  # fmt: skip
        records.append(json.loads((folder / "audit.json").read_text()))
    here, there = records
    for form in ("float", "int8"):
        ours, theirs = (record["forgetting"][form]["after"]["mean"] for record in (there, here))
        np.testing.assert_allclose(ours, theirs, atol=5e-3)
        for name, losses in here["integrity"][form]["loss_by_timestep"].items():
            np.testing.assert_allclose(there["integrity"][form]["loss_by_timestep"][name], losses, rtol=1e-2)
