"""Run as a program: makes every file system read-only but the working folder, then becomes the command that follows.

    python -I -S read_only.py PROGRAM ARGUMENT...      in a mount namespace of its own (`sandbox.py`)

Linux 5.12 or later: `mount_setattr` is the one call that reaches all mounts at once. Standard library only.
"""

import ctypes
import os
import sys

MOUNT_SETATTR = 442
"""The call's number, the same on every architecture."""
MOUNT_ATTR_RDONLY = 1
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MS_BIND = 4096


class MountAttr(ctypes.Structure):
    """`struct mount_attr` of linux/mount.h."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    folder = os.getcwd().encode()

    def check(result: int) -> None:
        if result != 0:
            sys.exit(f"read-only: {os.strerror(ctypes.get_errno())}")

    def set_attributes(path: bytes, flags: int, attributes: MountAttr) -> None:
        size = ctypes.sizeof(attributes)
        check(libc.syscall(MOUNT_SETATTR, AT_FDCWD, path, flags, ctypes.byref(attributes), size))

    check(libc.mount(folder, folder, None, MS_BIND, None))
    set_attributes(b"/", AT_RECURSIVE, MountAttr(attr_set=MOUNT_ATTR_RDONLY))
    set_attributes(folder, 0, MountAttr(attr_clr=MOUNT_ATTR_RDONLY))
    os.chdir(folder)  # The old working folder lies under the mount that has just been put over it.
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
