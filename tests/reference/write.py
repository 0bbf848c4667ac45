"""Write the traces of the transcribed procedures again: `python -m tests.reference.write`."""

import importlib
import json
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent
TRACES = HERE / "traces"


def transcriptions() -> list[str]:
    """Return the names of the transcriptions: of a method, or of a form of it."""
    return sorted(p.stem for p in (HERE / "published").glob("[a-z]*.py"))


def make(name: str) -> dict:
    """Return the trace of a transcription as its JSON file holds it: steps of a training, or rounds that choose."""
    module = importlib.import_module(f"tests.reference.published.{name}")
    settings = module.ABOUT["settings"]
    made = {"rounds": module.rounds(**settings)} if hasattr(module, "rounds") else {"steps": module.run(**settings)}
    return {"method": name, **module.ABOUT, **plain(made)}


def read(path: pathlib.Path) -> dict:
    return json.loads(path.read_text())


def files(kind: str = "", test: str = "") -> list[pathlib.Path]:
    """Return the paths of the traces: of all, of those that hold "steps" or "rounds", or that a test module follows."""
    traces = [(path, read(path)) for path in sorted(TRACES.glob("*.json"))]
    follows = lambda trace: not test or trace.get("test", "test_traces") == test
    return [path for path, trace in traces if (not kind or kind in trace) and follows(trace)]


def kind_of(trace: dict) -> str:
    return "rounds" if "rounds" in trace else "steps"


def plain(value):
    """Return nested dicts, lists and arrays as JSON's types: masks as 0 and 1, numbers with nine decimals."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return value.astype(int).tolist() if value.dtype == bool else (np.round(value, 9) + 0.0).tolist()
    return value


def to_text(trace: dict) -> str:
    """Return the JSON text of a trace, a line for each of its steps or rounds."""
    kind = kind_of(trace)
    head = json.dumps({k: v for k, v in trace.items() if k != kind}, indent=1).rstrip("}\n")
    return head + f',\n "{kind}": [\n' + ",\n".join(json.dumps(step) for step in trace[kind]) + "\n]}\n"


if __name__ == "__main__":
    for name in transcriptions():
        (TRACES / f"{name}.json").write_text(to_text(make(name)))
