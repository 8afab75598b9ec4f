"""Write the notebooks' cells marked `#@save` to `async_hpo/chapter.py` and `solutions.py`: `make save` calls this."""

from pathlib import Path

from tools.notebooks import ROOT, code_cells, notebooks, read

CHAPTER = ROOT / "async_hpo" / "chapter.py"
SOLUTIONS = ROOT / "async_hpo" / "solutions.py"  # what the solutions teach: neither exercises nor checks import it
MARK = "#@save"
HEADER = '"""What the {} teach and others reuse. Written by `make save` from their cells marked `#@save`."""\n'


def saved_code(module: Path) -> str:
    """The text of `CHAPTER` or `SOLUTIONS`: every cell with a line that ends in `#@save`, in the book's order."""
    parts = [HEADER.format("solutions" if module == SOLUTIONS else "notebooks")]
    for path in notebooks():
        if (path.parent.name == "solutions") != (module == SOLUTIONS):
            continue
        for cell in code_cells(read(path)):
            lines = cell.source.splitlines()
            if any(line.endswith(MARK) for line in lines):
                text = "\n".join(line.removesuffix(MARK).rstrip() for line in lines)
                parts.append(f"# {path.relative_to(ROOT).as_posix()}\n{text}\n")
    return "\n\n".join(parts)


if __name__ == "__main__":
    for module in (CHAPTER, SOLUTIONS):
        module.write_text(saved_code(module), "utf-8")
        print(f"wrote {module.relative_to(ROOT)}")
