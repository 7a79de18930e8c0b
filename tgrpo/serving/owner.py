"""Who has a port, for an error message that helps."""

from __future__ import annotations

from pathlib import Path


def owner_of_port(port: int) -> str:
    """`` by process 123 (python)`` of whoever listens on a port of this machine; nothing where that is not visible."""
    inodes = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening(table, port)}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) in inodes:
                process = link.parent.parent
                return f" by process {process.name} ({(process / 'comm').read_text(encoding='utf-8').strip()})"
        except OSError:
            continue  # ended meanwhile, or somebody else's
    return ""


def _listening(table: str, port: int) -> list[str]:
    try:
        rows = [line.split() for line in Path("/proc/net", table).read_text(encoding="utf-8").splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port]
