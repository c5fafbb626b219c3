"""The apps' command lines beside Python, on the same bundles and photos."""

import json
from collections.abc import Callable
from pathlib import Path

from edge_sdk import pocket
from tests.phones.apps import App, learn
from tests.run_records import assert_is_pythons, python_record


def test_a_record_is_pythons(app: App, bundle_of: Callable[[str, str], Path], tmp_path: Path) -> None:
    bundle = bundle_of("pocket", "int8")
    options = {"max_train_steps": 2, "eval_draws": 4, "seed": 3}
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    result = app.call(*learn(tmp_path / "run", *flags, bundle=bundle))
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert_is_pythons(record, python_record(pocket.PHOTOS, tmp_path / "python", bundle, **options))
    assert record["versions"]["onnxruntime"] == app.onnxruntime
    assert record["variance_share"] is not None
    assert 0 < record["seconds"] < 600 and 0 < record["peak_anon_mb"] < record["peak_rss_mb"] < 1000
    (tmp_path / "run" / "run.json").unlink()
    resumed = app.call(*learn(tmp_path / "run", *flags, "--resume_from_checkpoint", "latest", bundle=bundle))
    assert resumed.returncode == 0, resumed.stderr
    again = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (again["resumed"], again["mu_source"], again["mu_min"]) == (2, "checkpoint", record["mu_min"])
