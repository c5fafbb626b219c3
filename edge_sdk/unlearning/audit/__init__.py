"""An audit of unlearning: evidence of forgetting and of integrity, judged against limits that were fixed beforehand.

Read `audit.py` first, then `components.py`, `evidence.py` and `limits.py`.
"""
