"""Log messages of several lines stay one event, whatever way they are written."""

import io
import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warmfront.emulator.lambda_service.logs.sinks import LogSink, as_json
from warmfront.emulator.lambda_service.logs.stream_writer import StreamWriter
from warmfront.emulator.lambda_service.runtimes.log_frames import INNER_BREAK, FrameReader, with_line_breaks

from tests.emulator.harness import PATIENCE_S, function, running


def frame(text: str) -> bytes:
    body = text.encode()
    return bytes.fromhex("a55a0003") + len(body).to_bytes(4, "big") + bytes(8) + body


pieces = st.lists(
    st.one_of(
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x1e"), max_size=20).map(
            lambda text: (frame(text), text.encode().rstrip(b"\n").replace(b"\n", INNER_BREAK) + b"\n")
        ),
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x1e"), max_size=20).map(
            lambda text: (text.encode(), text.encode())
        ),
    ),
    max_size=8,
)


@given(pieces, st.lists(st.integers(0, 400), max_size=6))
def test_frames_and_what_is_printed_between_them_are_read_however_they_are_cut(
    parts: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    stream, expected = b"".join(sent for sent, _ in parts), b"".join(read for _, read in parts)
    reader, read, begin = FrameReader(), b"", 0
    for cut in [*sorted(cuts), len(stream)]:
        read += reader.read(stream[begin:cut])
        begin = max(begin, cut)
    assert read + reader.rest() == expected


def test_what_only_looks_like_a_frame_is_printed_as_it_is() -> None:
    binary = b"\xa5\x5a\x00\x03\xff\xff\xff\xffand so on\n"
    assert FrameReader().read(binary) == binary


def test_a_traceback_keeps_its_line_breaks_and_is_one_event(tmp_path: Path) -> None:
    with running(tmp_path, function("raises", "outcomes.raises")) as service:
        chunks: list[bytes] = []
        sink = service.service.options.sink
        outcome = service.invoke("raises", tail=True)
        sink.listeners.append(lambda _, chunk: chunks.append(chunk))
    assert "\r" not in outcome.log
    assert b"\r" not in (outcome.result.log_tail or b"")
    lines = outcome.lines
    error = next(index for index, line in enumerate(lines) if line.startswith("[ERROR] "))
    assert lines[error + 1] == "Traceback (most recent call last):"
    assert lines[error + 2].strip("\u00a0 ").startswith('File "')


def test_a_message_of_several_lines_is_one_object_in_json(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/app.py").write_text(
        "import logging\ndef handler(event, context):\n    logging.warning('one\\ntwo')\n    print('three')\n    print('four')\n"
    )
    written = io.BytesIO()
    with running(tmp_path, function("F", "app.handler", code_path=tmp_path / "code")) as service:
        service.service.options.sink._render = as_json
        service.service.options.sink._writer = StreamWriter(written)
        service.service.options.sink._closed = False
        service.invoke("F")
        service.service.options.sink.close()
    messages = [json.loads(line)["message"] for line in written.getvalue().splitlines()]
    assert next(each for each in messages if "one" in str(each)).endswith("one\ntwo")
    assert messages.index("four") == messages.index("three") + 1


def test_the_warning_before_an_init_error_is_there(tmp_path: Path) -> None:
    with running(tmp_path, function("broken", "broken.handler")) as service:
        outcome = service.invoke("broken")
    assert "LAMBDA_WARNING: Unhandled exception. The most likely cause is an issue in the function code." in outcome.log


def test_a_log_file_has_no_carriage_return(tmp_path: Path) -> None:
    path = tmp_path / "functions.log"
    with running(
        tmp_path,
        function("raises", "outcomes.raises"),
    ) as service:
        file = LogSink.to_file(path)
        service.service.options.sink.listeners.append(file.write)
        service.invoke("raises")
        service.call(file.close)
    assert b"\r" not in path.read_bytes()
    assert b"Traceback (most recent call last):\n" in path.read_bytes()


class Stuck(io.RawIOBase):
    """A terminal after Ctrl-S: a write does not return until somebody presses Ctrl-Q."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.written: list[bytes] = []

    def write(self, chunk: object) -> int:
        assert self.go.wait(PATIENCE_S)
        self.written.append(bytes(chunk))  # type: ignore[call-overload]
        return len(self.written[-1])


def test_a_terminal_that_does_not_read_stops_nobody_and_drops_are_counted() -> None:
    stuck = Stuck()
    writer = StreamWriter(stuck, queue_bytes_max=1000)  # type: ignore[arg-type]
    began = time.monotonic()
    for number in range(100):
        writer.put(b"%099d\n" % number)
    assert time.monotonic() - began < PATIENCE_S / 2
    dropped = writer.dropped_bytes
    assert dropped >= 100 * 100 - 2000
    stuck.go.set()
    writer.close()
    whole = b"".join(stuck.written)
    assert whole.startswith(b"%099d\n" % 0)
    assert b"warmfront: %d bytes of logs were dropped, because nobody read them here\n" % dropped in whole
    assert len(whole) <= 2000 + 100


def test_a_stuck_terminal_does_not_stop_the_end_either() -> None:
    read_fd, write_fd = os.pipe()
    with os.fdopen(write_fd, "wb", buffering=0) as stream:
        writer = StreamWriter(stream)
        writer.put(b"x" * (1 << 20))  # more than the pipe takes
        began = time.monotonic()
        writer.close()
        assert time.monotonic() - began < PATIENCE_S
        os.close(read_fd)


@pytest.mark.parametrize("text", [b"", b"no break", INNER_BREAK, b"a" + INNER_BREAK + b"b\n"])
def test_breaks_become_newlines(text: bytes) -> None:
    assert INNER_BREAK not in with_line_breaks(text)
    assert with_line_breaks(text).count(b"\n") == text.count(INNER_BREAK) + text.count(b"\n")
