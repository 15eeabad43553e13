from pathlib import Path

import pytest
import tensorflow as tf

from unet_keras.training import computation


@pytest.mark.parametrize(
    ("devices", "flags", "expected"),
    [
        (["GPU:0"], "avx512_bf16", "mixed_float16"),
        ([], "avx2 avx512f avx512_bf16", "mixed_bfloat16"),
        ([], "avx2 amx_bf16 amx_tile", "mixed_bfloat16"),
        ([], "avx2 avx512f", "float32"),
        ([], None, "float32"),
    ],
)
def test_auto_takes_what_the_machine_computes_fast(
    devices: list[str],
    flags: str | None,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    described = tmp_path / "cpuinfo"
    if flags is not None:
        described.write_text(f"processor : 0\nflags : {flags}\n")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices)
    monkeypatch.setattr(computation, "Path", lambda name: described)
    assert computation.resolve_precision("auto") == expected
    assert computation.resolve_precision("float32") == "float32"
