"""What is installed: code, the marker of its types, voices with how they learned, the atlas."""

from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from tokenkl.optimality.patterns import FOUND
from tokenkl.optimality.proved import PROVED

ROOT = Path(__file__).resolve().parent.parent
VOICES = {
    "tokenkl/tts/weights/characters.safetensors",
    "tokenkl/tts/weights/loss-characters.csv",
    "tokenkl/tts/weights/loss-phonemes.csv",
    "tokenkl/tts/weights/phonemes.safetensors",
    "tokenkl/tts/weights/tokenizer.safetensors",
}
#: The atlas of codebooks, and what proves an upper bound.
OPTIMALITY = {
    "tokenkl/optimality/proofs/patterns_3_8.json",
    *(f"tokenkl/optimality/proofs/{name}" for name in FOUND),
    *(f"tokenkl/optimality/proofs/{name}.json" for name in PROVED),
    "tokenkl/optimality/search/data/atlas.json",
    "tokenkl/optimality/search/data/atlas.npz",
}


def test_contents() -> None:
    found = {one.distribution_path for one in WheelBuilder(str(ROOT)).recurse_included_files()}
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "tokenkl").rglob("*.py")}
    data = {"tokenkl/py.typed", "tokenkl/__init__.pyi", "tokenkl/page.css"}
    assert found == code | data | VOICES | OPTIMALITY


def test_what_is_installed_is_small() -> None:
    assert sum((ROOT / name).stat().st_size for name in VOICES) < 2**25
    assert sum((ROOT / name).stat().st_size for name in OPTIMALITY) < 2**19
