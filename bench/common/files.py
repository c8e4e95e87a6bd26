"""Files that are complete or not there, whenever another program looks or this one is stopped."""


def write_whole(path, write):
    """Calls `write` with another name in the same folder, and renames what it has written to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.new{path.suffix}")
    write(temporary)
    temporary.rename(path)


def write_text(path, text):
    """Writes a whole text file."""
    write_whole(path, lambda new: new.write_text(text))
