"""What compiled classes refer to: a small reader of class files (The Java Virtual Machine Specification, 4.4)."""

import struct
from dataclasses import dataclass, field

# Kinds of constants, and how many bytes follow them.
UTF8, CLASS, FIELD, METHOD, INTERFACE_METHOD, NAME_AND_TYPE = 1, 7, 9, 10, 11, 12
SIZES = {3: 4, 4: 4, 5: 8, 6: 8, CLASS: 2, 8: 2, FIELD: 4, METHOD: 4, INTERFACE_METHOD: 4, NAME_AND_TYPE: 4}
SIZES |= {15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}
WIDE = (5, 6)  # take two places each


@dataclass
class ClassFile:
    """Names are as in class files: ``java/lang/String``."""

    name: str
    parents: list[str]
    members: set[tuple[str, str]] = field(default_factory=set)  # name and descriptor
    references: set[tuple[str, str, str]] = field(default_factory=set)  # owner, name and descriptor


def read(data: bytes) -> ClassFile:
    """Read one class."""
    (count,) = struct.unpack_from(">H", data, 8)
    constants: dict[int, tuple[int, bytes]] = {}
    place, at = 1, 10
    while place < count:
        kind = data[at]
        size = 2 + struct.unpack_from(">H", data, at + 1)[0] if kind == UTF8 else SIZES[kind]
        constants[place] = kind, data[at + 1 : at + 1 + size]
        place, at = place + (2 if kind in WIDE else 1), at + 1 + size

    def text(index: int) -> str:
        kind, content = constants[index]
        return content[2:].decode("utf-8", "replace") if kind == UTF8 else text(struct.unpack(">H", content)[0])

    _, this, parent, interfaces = struct.unpack_from(">HHHH", data, at)
    parents = ([text(parent)] if parent else []) + [
        text(struct.unpack_from(">H", data, at + 8 + 2 * i)[0]) for i in range(interfaces)
    ]
    result = ClassFile(text(this), parents)
    for kind, content in constants.values():
        if kind in (FIELD, METHOD, INTERFACE_METHOD):
            owner, pair = struct.unpack(">HH", content)
            name, descriptor = struct.unpack(">HH", constants[pair][1])
            result.references.add((text(owner), text(name), text(descriptor)))
    at += 8 + 2 * interfaces
    for _ in range(2):  # fields, then methods
        (number,) = struct.unpack_from(">H", data, at)
        at += 2
        for _ in range(number):
            _, name, descriptor, attributes = struct.unpack_from(">HHHH", data, at)
            result.members.add((text(name), text(descriptor)))
            at += 8
            for _ in range(attributes):
                at += 6 + struct.unpack_from(">I", data, at + 2)[0]
    return result
