"""M4A and MP4 files: tables are read in `tokenmill.audio.mp4_tables`; AAC and ALAC are decoded by FFmpeg's decoders.

Encoder delay and padding are cut off by the edit list, or by Apple's `iTunSMPB` where a file has it. A file that ends
before the last packet that its tables name is damaged, as is a packet that a decoder refuses.
"""

from __future__ import annotations

from collections.abc import Iterator

from tokenmill.audio.byte_reader import ByteReader
from tokenmill.audio.mp4_tables import Mp4Sound, read_mp4
from tokenmill.audio.packet_decoder import Codec, PacketDecoder
from tokenmill.audio.tracks import AudioInfo, Block, Damaged, Unsupported, trimmed

#: Packets are decoded so many at once, of not more bytes than these.
_BATCH_PACKETS = 16
_MOST_PACKET_BYTES = 4 << 20
#: ALAC allocates by what its header says; encoders write 4096.
_MOST_ALAC_SAMPLES = 65_536


class M4aTrack:
    """An open M4A file; raises Damaged or Unsupported."""

    def __init__(self, reader: ByteReader) -> None:
        self._reader = reader
        self._sound = sound = read_mp4(reader)
        codec: Codec = "alac" if sound.codec == "alac" else "aac"
        if codec == "alac" and not 0 < int.from_bytes(sound.setup[12:16], "big") <= _MOST_ALAC_SAMPLES:
            raise Unsupported(f"ALAC with frames of {int.from_bytes(sound.setup[12:16], 'big')} samples")
        self._decoder = PacketDecoder(codec, sound.setup)
        self._batches = self._decoded()
        # What the tables say of AAC's rate and channels may be half of it (SBR, parametric stereo): its decoder tells.
        self._broken: Damaged | None = None
        self._first: Block | None = None
        try:
            self._first = next(self._batches)
        except Damaged as error:
            self._broken = error
        rate_hz = self._decoder.rate_hz or sound.rate_hz
        channels = self._decoder.channels or sound.channels
        if not rate_hz or not channels:
            raise Damaged(f"the tables state {channels} channels and {rate_hz} Hz")
        self._skip, samples = _kept(sound, rate_hz)
        self.info = AudioInfo("m4a", codec, rate_hz, channels, samples)

    def blocks(self) -> Iterator[Block]:
        """Yield float32 `[sample, channel]`."""
        return trimmed(self._all(), self._skip, self.info.samples)

    def _all(self) -> Iterator[Block]:
        if self._first is None:
            assert self._broken is not None  # even a file without packets has a batch, of nothing
            raise self._broken
        yield self._first
        yield from self._batches

    def _decoded(self) -> Iterator[Block]:
        offsets, sizes = self._sound.offsets, self._sound.sizes
        for start in range(0, len(sizes), _BATCH_PACKETS):
            packets: list[bytes] = []
            cut = False
            for at, size in zip(
                offsets[start : start + _BATCH_PACKETS].tolist(),
                sizes[start : start + _BATCH_PACKETS].tolist(),
                strict=True,
            ):
                cut = size > _MOST_PACKET_BYTES or at + size > self._reader.size_bytes
                if cut:
                    break
                self._reader.seek(at)
                packets.append(self._reader.read(size))
            yield self._decoder.decode(packets)
            if cut:
                raise Damaged("the file ends before the packets do that its tables name")
        yield self._decoder.flush()


def _kept(sound: Mp4Sound, rate_hz: int) -> tuple[int, int]:
    """Return how many samples to skip, and how many to keep."""
    scale = rate_hz / sound.timescale_hz
    whole = round(sound.duration * scale)
    if sound.gapless is not None:
        delay, samples = sound.gapless
        if delay + samples <= whole:
            return delay, samples
    skip = round(sound.skipped * scale)
    samples = max(whole - skip, 0)
    if sound.edit_seconds is not None:
        edited = round(sound.edit_seconds * rate_hz)
        # The edit list counts in the movie's ticks, often milliseconds: within one, the packets' own count is exact.
        if samples - edited > rate_hz * sound.tick_seconds + 1:
            samples = edited
    return skip, samples
