"""Zip files, read with suspicion: what they say of themselves is held against their bytes.

Python's own reader believes a directory, and tells nobody where a member's bytes lie. This one does, so that
stored arrays need no copy, and refuses what no writer of checkpoints makes: members that overlap or lie outside
of the file, two of one name, encrypted ones, ones that say another size in the directory than they unpack to,
and ones that would become far more than the file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from d2lparams.checkpoints.checkpoint import bad, each_once, most_unpacked
from d2lparams.checkpoints.mapped import Mapped
from d2lparams.tensor_file import shown

STORED, DEFLATED = 0, 8
_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_DIRECTORY, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
_ENCRYPTED, _UTF8 = 0x1, 0x800
_MOST_MEMBERS = 200_000
_CHUNK = 2**20


@dataclass(frozen=True)
class Member:
    """One file in the archive: `start` is where its bytes begin, `packed` how many there are of them."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    start: int

    @property
    def stored(self) -> bool:
        """Whether its bytes are as they stand, not compressed."""
        return self.method == STORED


class Archive:
    """The members of a zip file, by name, in the order of its directory."""

    def __init__(self, file: Mapped) -> None:
        """Read the directory.

        Raises:
            BadFile: when it is not whole, or says what cannot be.
        """
        self.file, self.path = file, file.path
        members = self._members(*self._directory())
        each_once(self.path, (one.name for one in members))
        self.members = {one.name: one for one in members}
        end = 0
        for one in sorted(members, key=lambda one: one.start):
            if one.start < end:
                raise bad(self.path, f"its member {shown(one.name)} overlaps another one")
            end = one.start + one.packed
        unpacked, most = sum(one.size for one in members), most_unpacked(file.size)
        if unpacked > most:
            raise bad(
                self.path,
                f"it would unpack to {unpacked} bytes, and from a file of {file.size} bytes "
                f"no more than {most} are taken",
            )

    def read(self, name: str, most: int) -> bytearray:
        """A member, unpacked and checked.

        Args:
            name: of a member.
            most: refuse it when it has more bytes.

        Raises:
            BadFile: when it is not what the directory says, or is too large.
        """
        member = self.members[name]
        if member.size > most:
            raise bad(self.path, f"its member {shown(name)} has {member.size} bytes; {most} is the most for it")
        content = bytearray()
        for piece in self._pieces(member):
            content += piece
        return content

    def front(self, name: str, most: int) -> bytes:
        """The first bytes of a member, unpacked; no more than so many, and not checked.

        Raises:
            BadFile: when they cannot be unpacked.
        """
        member = self.members[name]
        packed = self.file.take(member.start, min(most, member.packed))
        if member.stored:
            return packed
        try:
            return zlib.decompressobj(-15).decompress(packed, most)
        except zlib.error as error:
            raise bad(self.path, f"its member {shown(name)} cannot be unpacked: {error}") from None

    def check(self, name: str) -> None:
        """Hold a stored member's bytes against its checksum.

        Raises:
            BadFile: when they do not fit.
        """
        member = self.members[name]
        found = 0
        for start in range(0, member.packed, _CHUNK):
            count = min(_CHUNK, member.packed - start)
            found = zlib.crc32(self.file.raw(member.start + start, count).data, found)
        if found != member.crc:
            raise bad(self.path, f"its member {shown(name)} is damaged: its checksum is another one")

    def copy(self, name: str, target: Path) -> None:
        """Write a member, unpacked and checked, to a file.

        Raises:
            BadFile: when it is not what the directory says.
            OSError: when the file cannot be written.
        """
        with target.open("xb") as file:
            for piece in self._pieces(self.members[name]):
                file.write(piece)

    def _pieces(self, member: Member) -> Iterator[bytes]:
        """A member's bytes, unpacked, piece by piece; as many of them as the directory says."""
        stream = None if member.stored else zlib.decompressobj(-15)
        count, found = 0, 0
        for start in range(0, member.packed, _CHUNK):
            chunk = self.file.take(member.start + start, min(_CHUNK, member.packed - start))
            more = True
            while more:
                piece = chunk
                if stream is not None:
                    try:
                        piece = stream.decompress(chunk, _CHUNK)
                    except zlib.error as error:
                        raise bad(
                            self.path, f"its member {shown(member.name)} cannot be unpacked: {error}"
                        ) from None
                    chunk = stream.unconsumed_tail
                count, found = count + len(piece), zlib.crc32(piece, found)
                if count > member.size:
                    raise bad(self.path, f"its member {shown(member.name)} unpacks to more than it announces")
                yield piece
                # A piece as long as it may be can have left some behind, also when all input has been taken.
                more = stream is not None and (bool(chunk) or len(piece) == _CHUNK)
        if count != member.size or (stream is not None and (not stream.eof or stream.unused_data)):
            raise bad(
                self.path, f"its member {shown(member.name)} does not unpack to the size that is announced"
            )
        if found != member.crc:
            raise bad(self.path, f"its member {shown(member.name)} is damaged: its checksum is another one")

    def _directory(self) -> tuple[int, int, int]:
        """Where the directory begins and ends, and how many members it lists."""
        file = self.file
        place = file.rfind(_END, file.size - 22 - 0xFFFF)
        if place < 0 or place + 22 > file.size:
            raise bad(self.path, "it is cut short: the directory at the end of the zip file is missing")
        count, length, start = struct.unpack("<10xHII", file.take(place, 20))
        end = place
        if file.take(max(place - 20, 0), 4) == _LOCATOR64 and place >= 20:
            place64 = file.number(place - 12, 8)
            if file.take(place64, 4) != _END64:
                raise bad(self.path, "its directory cannot be found where the end of the file says")
            count, length, start = struct.unpack("<32xQQQ", file.take(place64, 56))
            end = place64
        if start + length != end or length < 46 * count:
            raise bad(self.path, "its directory is not where and not as long as the end of the file says")
        if count > _MOST_MEMBERS:
            raise bad(self.path, f"it holds {count} members; more than {_MOST_MEMBERS} are not taken")
        return start, end, count

    def _members(self, start: int, end: int, count: int) -> list[Member]:
        members = []
        for _ in range(count):
            if start + 46 > end or self.file.take(start, 4) != _DIRECTORY:
                raise bad(self.path, "its directory is damaged")
            member, start = self._member(start, end)
            members.append(member)
        if start != end:
            raise bad(self.path, "its directory lists more members than the end of the file says")
        return members

    def _member(self, start: int, end: int) -> tuple[Member, int]:
        """One entry of the directory, and where the next one begins."""
        file = self.file
        flags, method, crc, *numbers = struct.unpack("<8xHH4xIIIHHH8xI", file.take(start, 46))
        packed, size, names, extras, comments, header = numbers
        stop = start + 46 + names + extras + comments
        if stop > end:
            raise bad(self.path, "its directory is damaged")
        encoded, extra = file.take(start + 46, names), file.take(start + 46 + names, extras)
        try:
            name = encoded.decode("utf-8" if flags & _UTF8 else "cp437")
        except UnicodeDecodeError:
            raise bad(self.path, f"the name of its member {encoded!r:.80} is no text") from None
        # What does not fit into 32 bits stands behind, in this order, and only if it does not.
        wide = iter(self._wide(extra))
        try:
            size, packed, header = (next(wide) if one == 0xFFFFFFFF else one for one in (size, packed, header))
        except RuntimeError:  # what a StopIteration becomes in a generator
            raise bad(self.path, f"the size of its member {shown(name)} is missing") from None
        if flags & _ENCRYPTED:
            raise bad(self.path, f"its member {shown(name)} is encrypted")
        if method not in (STORED, DEFLATED) or (method == STORED and packed != size):
            raise bad(self.path, f"its member {shown(name)} is packed in a way that is not read here")
        if file.take(header, 4) != _LOCAL:
            raise bad(self.path, f"its member {shown(name)} is not where the directory says")
        local_names, local_extras = struct.unpack("<26xHH", file.take(header, 30))
        if file.take(header + 30, local_names) != encoded or file.number(header + 8, 2) != method:
            raise bad(self.path, f"its member {shown(name)} is another one than the directory says")
        begin = header + 30 + local_names + local_extras
        if begin + packed > file.size:
            raise bad(self.path, f"it is cut short: its member {shown(name)} would end behind its end")
        return Member(name, method, crc, packed, size, begin), stop

    @staticmethod
    def _wide(extra: bytes) -> list[int]:
        """The numbers of 64 bits in an entry's extra field."""
        place = 0
        while place + 4 <= len(extra):
            kind, length = struct.unpack_from("<HH", extra, place)
            if kind == 1:
                block = extra[place + 4 : place + 4 + length]
                return [int.from_bytes(block[at : at + 8], "little") for at in range(0, len(block) - 7, 8)]
            place += 4 + length
        return []
