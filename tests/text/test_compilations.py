"""How often training traces and compiles, counted in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def test_one_compilation_a_shape_and_none_in_the_second_epoch(tmp_path):
    flags = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text"
    environment = {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, HERE / "compilations.py"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    # TensorFlow traces once, for batches of any length; what it traced is compiled for each length.
    after_one_epoch, after_two = json.loads(done.stdout)
    assert after_one_epoch == after_two
    compiled = sorted(tmp_path.glob("*before_optimizations.txt"))
    assert len(compiled) == 2, [path.name for path in compiled]
    assert all("one_step_on_data" in path.name for path in compiled)
