"""What happens to disks and files."""

import resource


def no_large_files(process):
    """From now on the process cannot write files above 200 kB, as on a disk that is nearly full."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (200_000, 200_000))


def largest_file(folder):
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def truncate(folder):
    file = largest_file(folder)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(folder):
    file = largest_file(folder)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def half_rename(folder):
    """As if the folder had got its name before its files."""
    (folder / "record.json").unlink()


def empty(folder):
    """As after a power failure, where files have names and no content."""
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
