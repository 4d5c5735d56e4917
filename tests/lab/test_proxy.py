"""The proxy without faults and with each fault. Times are only compared with each other."""

import asyncio
import itertools
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warmfront.lab.proxy import Control, Proxy, new_loop
from warmfront.lab.proxy_process import ProxyProcess
from warmfront.lab.tcp_faults import FAULT_KINDS, FaultError, TcpFault

from tests.lab.service import PATIENCE_S, Client, bench, unused_port


def run(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(test, 30))


async def seconds(work: Coroutine[Any, Any, object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


class TestNoBytesDropped:
    """Every byte arrives once and in order, however faults that drop no bytes are applied and cleared."""

    faults = st.lists(
        st.tuples(
            st.sampled_from(
                [
                    ("latency", {"delay_s": 0.002}),
                    ("jitter", {"delay_max_s": 0.003}),
                    ("slicer", {"bytes": 7, "delay_s": 0}),
                    ("bandwidth", {"bytes_per_s": 5_000_000}),
                    ("slow_close", {"delay_s": 0.005}),
                    ("black_hole", {}),
                ]
            ),
            st.sampled_from(["upstream", "downstream", "both"]),
            st.booleans(),
        ),
        max_size=4,
    )
    messages = st.lists(st.binary(min_size=1, max_size=40) | st.integers(1, 300_000).map(bytes), max_size=8)

    @settings(max_examples=60, deadline=None)
    @given(messages=messages, faults=faults, seed=st.integers(0, 9))
    def test_every_byte_arrives_once_and_in_order(self, messages: list[bytes], faults: list[Any], seed: int) -> None:
        async def test() -> None:
            async with bench() as b:
                for (kind, numbers), direction, early in faults:
                    if early:
                        b.add(kind, direction, seed=seed, **numbers)
                client = await b.connect()
                answer = asyncio.ensure_future(client.rest())
                for number, message in enumerate(messages):
                    client.writer.write(message)
                    if number == len(messages) // 2:
                        await asyncio.sleep(0)
                        for (kind, numbers), direction, _ in faults:
                            b.add(kind, direction, seed=seed, **numbers)
                client.writer.write_eof()
                b.proxy.remove("black_hole")
                assert await answer == b"".join(messages)

        run(test())

    @pytest.mark.parametrize("kind", [name for name, kind in FAULT_KINDS.items() if not kind.drops_bytes])
    def test_a_kind_that_drops_nothing_keeps_a_megabyte_whole(self, kind: str) -> None:
        quick: dict[str, dict[str, float]] = {
            "bandwidth": {"bytes_per_s": 50e6},
            "slicer": {"bytes": 1000, "delay_s": 0},
        }
        sent = b"".join(number.to_bytes(4) for number in range(250_000))

        async def test() -> None:
            async with bench() as b:
                client = await b.connect()
                await client.ask(b"open")
                b.proxy.add(kind, TcpFault(kind, settings=quick.get(kind, {})))
                client.writer.write(sent)
                client.writer.write_eof()
                answer = asyncio.ensure_future(client.rest())
                await asyncio.sleep(0.01)
                b.proxy.remove(kind)
                assert await answer == sent

        run(test())


class TestPlain:
    def test_a_reader_that_stops_does_not_fill_the_proxys_memory(self) -> None:
        async def answer(*_: object) -> None:
            await done.wait()

        done = asyncio.Event()

        async def test() -> None:
            async with bench(answer) as b:
                client = await b.connect()
                writer = client.writer.transport
                for _ in range(200):
                    client.writer.write(bytes(100_000))
                await asyncio.sleep(0.05)
                assert writer.get_write_buffer_size() > 1_000_000  # 20 MB were sent: most of them still wait here
                done.set()

        run(test())

    def test_a_half_closed_connection_still_carries_the_answer(self) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await reader.read()
            writer.write(b"got " + request)

        async def test() -> None:
            async with bench(answer) as b:
                client = await b.connect()
                client.writer.write(b"all")
                client.writer.write_eof()
                assert await client.rest() == b"got all"

        run(test())

    def test_a_service_that_is_down_resets_the_client_and_is_counted(self) -> None:
        async def test() -> None:
            proxy = Proxy(("127.0.0.1", unused_port()))
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), PATIENCE_S)
            assert proxy.stats()["dial_errors"] == 1
            writer.close()
            proxy.close()

        run(test())

    def test_a_client_that_resets_resets_the_service(self) -> None:
        async def test() -> None:
            async with bench() as b:
                client = await b.connect()
                await client.ask(b"x")
                client.writer.transport.abort()
                assert await asyncio.wait_for(b.ended.get(), PATIENCE_S) in ("end", "reset")

        run(test())

    def test_counters_tell_connections_and_bytes(self) -> None:
        async def test() -> None:
            async with bench() as b:
                clients = [await b.connect() for _ in range(3)]
                for client in clients:
                    await client.ask(b"12345")
                stats = b.proxy.stats()
                assert (stats["accepted"], stats["open"], stats["open_max"]) == (3, 3, 3)
                assert stats["bytes"] == {"upstream": 15, "downstream": 15}
                b.proxy.reset_stats()
                assert (b.proxy.stats()["accepted"], b.proxy.stats()["open_max"]) == (0, 3)

        run(test())


class TestLatency:
    @pytest.mark.parametrize(("direction", "delays"), [("upstream", 1), ("downstream", 1), ("both", 2)])
    def test_a_round_trip_is_late_once_per_direction(self, direction: str, delays: int) -> None:
        delay_s = 0.05

        async def test() -> None:
            async with bench() as b:
                client = await b.connect()
                plain_s = await seconds(client.ask(b"x"))
                b.add("latency", direction, delay_s=delay_s)
                late_s = await seconds(client.ask(b"x"))
                assert delays * delay_s <= late_s - plain_s + 0.005
                assert late_s < plain_s + (delays + 1) * delay_s  # not one delay more: bounded by the delay itself
                b.proxy.remove("latency")
                assert await seconds(client.ask(b"x")) < delay_s

        run(test())

    def test_chunks_close_together_are_late_together_and_not_one_after_the_other(self) -> None:
        async def test() -> None:
            async with bench() as b:
                client = await b.connect()
                await client.ask(b"x")
                b.add("latency", "upstream", delay_s=0.1)

                async def burst() -> None:
                    for _ in range(10):
                        client.writer.write(b"y")
                        await asyncio.sleep(0.002)
                    await client.reader.readexactly(10)

                assert 0.1 <= await seconds(burst()) < 0.5  # ten delays would be 1 s

        run(test())

    def test_a_delay_below_a_millisecond_is_not_rounded_up_to_many(self) -> None:
        """Check a delay of 0.25 ms, which epoll would make 1 ms or more. Thirty attempts are enough on a busy machine."""

        async def test() -> None:
            async with bench() as b:
                client = await b.connect()
                plain_s = min([await seconds(client.ask(b"x")) for _ in range(30)])
                b.add("latency", delay_s=0.000_25)
                late_s = min([await seconds(client.ask(b"x")) for _ in range(30)])
                assert 0.000_5 <= late_s < plain_s + 0.002

        run(test())

    def test_taking_it_off_lets_go_what_it_held(self) -> None:
        async def test() -> None:
            async with bench() as b:
                client = await b.connect()
                b.add("latency", "upstream", delay_s=60)
                answer = asyncio.ensure_future(client.ask(b"x"))
                await asyncio.sleep(0.02)
                b.proxy.remove("latency")
                assert await answer == b"x"

        run(test())


def test_jitter_is_another_delay_for_each_chunk_and_the_same_for_the_same_seed() -> None:
    async def delays(seed: int) -> list[float]:
        async with bench() as b:
            client = await b.connect()
            await client.ask(b"x")
            b.add("jitter", "upstream", seed=seed, delay_max_s=0.08)
            return [await seconds(client.ask(b"x")) for _ in range(6)]

    async def test() -> None:
        first, again = await delays(1), await delays(1)
        assert max(first) > 2 * min(first)
        assert max(first) < 0.08 * 2
        assert sorted(range(6), key=first.__getitem__)[-1] == sorted(range(6), key=again.__getitem__)[-1]

    run(test())


class TestBlackHole:
    def test_nothing_arrives_until_it_is_cleared_and_then_everything_does(self) -> None:
        async def test() -> None:
            async with bench() as b:
                client = await b.connect()
                await client.ask(b"x")
                b.add("black_hole")
                client.writer.write(b"held")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.reader.read(1), 0.1)
                b.proxy.clear()
                assert await asyncio.wait_for(client.reader.readexactly(4), PATIENCE_S) == b"held"

        run(test())

    def test_the_service_does_not_see_new_connections(self) -> None:
        async def test() -> None:
            seen = asyncio.Event()

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                seen.set()
                writer.write(await reader.read(1))

            async with bench(answer) as b:
                b.add("black_hole")
                client = await b.connect()  # it is accepted, as a SYN proxy would
                client.writer.write(b"x")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(seen.wait(), 0.1)
                b.proxy.clear()
                assert await asyncio.wait_for(client.reader.read(1), PATIENCE_S) == b"x"

        run(test())

    def test_a_client_that_gave_up_is_never_shown_to_the_service(self) -> None:
        async def test() -> None:
            async with bench() as b:
                b.add("black_hole")
                client = await b.connect()
                client.writer.close()
                await client.writer.wait_closed()
                other = await b.connect()
                await asyncio.sleep(0.02)
                b.proxy.clear()
                await other.ask(b"x")
                assert b.ended.empty()
                assert b.proxy.stats()["open"] == 1

        run(test())

    def test_downstream_only_lets_requests_take_effect_and_eats_the_acknowledgement(self) -> None:
        async def test() -> None:
            heard: list[bytes] = []
            came = asyncio.Event()

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                heard.append(await reader.read(10))
                writer.write(b"ok")
                came.set()
                await reader.read()

            async with bench(answer) as b:
                b.add("black_hole", "downstream")
                client = await b.connect()
                client.writer.write(b"buy")
                await asyncio.wait_for(came.wait(), PATIENCE_S)
                assert heard == [b"buy"]
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.reader.read(2), 0.1)

        run(test())


class TestReset:
    def test_open_connections_are_reset_at_once_at_both_ends(self) -> None:
        async def test() -> None:
            async with bench() as b:
                client = await b.connect()
                await client.ask(b"x")
                b.add("reset")
                with pytest.raises(ConnectionResetError):
                    await client.rest()
                assert await asyncio.wait_for(b.ended.get(), PATIENCE_S) == "reset"

        run(test())

    def test_new_connections_are_reset_until_it_is_cleared(self) -> None:
        async def test() -> None:
            async with bench() as b:
                b.add("reset")
                with pytest.raises(ConnectionResetError):
                    await (await b.connect()).rest()
                b.proxy.clear()
                assert await (await b.connect()).ask(b"x") == b"x"

        run(test())

    def test_cleared_before_its_time_it_never_strikes(self) -> None:
        async def test() -> None:
            async with bench() as b:
                client = await b.connect()
                b.add("reset", after_s=0.05)
                await client.ask(b"x")
                b.proxy.clear()
                await asyncio.sleep(0.1)
                assert await client.ask(b"y") == b"y"

        run(test())


class TestRefuse:
    def test_new_connections_are_refused_open_ones_live_and_the_port_comes_back(self) -> None:
        async def test() -> None:
            async with bench() as b:
                client = await b.connect()
                await client.ask(b"x")
                b.add("refuse")
                for _ in range(3):
                    with pytest.raises(ConnectionRefusedError):
                        await b.connect()
                assert await client.ask(b"still") == b"still"
                b.proxy.clear()
                assert await (await b.connect()).ask(b"x") == b"x"

        run(test())

    def test_a_share_of_a_listener_is_refused_as_a_fault(self) -> None:
        with pytest.raises(FaultError, match="use reset"):
            TcpFault("refuse", share=0.5)


def test_bandwidth_holds_the_rate() -> None:
    async def test() -> None:
        async with bench() as b:
            client = await b.connect()
            plain_s = await seconds(client.ask(bytes(20_000)))
            b.add("bandwidth", "upstream", bytes_per_s=100_000)
            slow_s = await seconds(client.ask(bytes(20_000)))
            assert slow_s >= 0.2 - 0.005
            assert slow_s < plain_s + 3 * 0.2

    run(test())


def test_truncate_cuts_the_answer_after_so_many_bytes() -> None:
    async def test() -> None:
        async with bench() as b:
            client = await b.connect()
            b.add("truncate", "downstream", bytes=10)
            client.writer.write(b"0123456789abcdef")
            assert await client.rest() == b"0123456789"
            assert b.proxy.stats()["open"] == 0

    run(test())


def test_half_close_ends_one_direction_and_the_other_goes_on() -> None:
    async def test() -> None:
        async with bench() as b:
            client = await b.connect()
            await client.ask(b"x")
            b.add("half_close", "downstream")
            assert await client.rest() == b""
            assert b.ended.empty()
            client.writer.write(b"still heard")
            client.writer.write_eof()
            assert await asyncio.wait_for(b.ended.get(), PATIENCE_S) == "end"
            assert b.proxy.stats()["bytes"]["upstream"] == len(b"x" + b"still heard")

    run(test())


def test_slow_close_delays_the_end_and_nothing_else() -> None:
    async def test() -> None:
        async with bench() as b:
            client = await b.connect()
            b.add("slow_close", "upstream", delay_s=0.1)
            assert await seconds(client.ask(b"x")) < 0.1
            client.writer.write_eof()
            assert await seconds(client.rest()) >= 0.1 - 0.005

    run(test())


def test_slicer_makes_small_pieces_of_a_large_one() -> None:
    async def test() -> None:
        pieces: list[bytes] = []

        async def answer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                pieces.append(data)

        async with bench(answer) as b:
            client = await b.connect()
            b.add("slicer", "upstream", bytes=10, delay_s=0.002)
            client.writer.write(bytes(95))
            client.writer.write_eof()
            await client.rest()
            assert sum(map(len, pieces)) == 95
            assert len(pieces) > 3  # 10 were sent; a busy reader may join some

    run(test())


def test_http_error_answers_for_a_service_that_is_never_asked() -> None:
    async def test() -> None:
        async with bench() as b:
            client = await b.connect()
            b.add("http_error", "upstream", status=429)
            client.writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert (await client.rest()).startswith(b"HTTP/1.1 429 ")
            assert b.proxy.stats()["bytes"]["upstream"] == 0

    run(test())


def test_aws_throttles_in_the_words_that_its_clients_know() -> None:
    async def test() -> None:
        async with bench() as b:
            client = await b.connect()
            b.add("aws_throttled", "upstream")
            client.writer.write(b"POST / HTTP/1.1\r\n\r\n")
            head, _, body = (await client.rest()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 ")
            assert f"Content-Length: {len(body)}".encode() in head
            assert b"ThrottlingException" in body
            assert b.proxy.stats()["bytes"]["upstream"] == 0

    run(test())


def test_new_connections_go_where_the_proxy_is_redirected_to() -> None:
    async def test() -> None:
        async with bench() as first, bench() as second:
            await (await first.connect()).ask(b"x")
            first.proxy.upstream = ("127.0.0.1", second.proxy.port)
            await (await first.connect()).ask(b"y")
            assert second.proxy.stats()["accepted"] == 1

    run(test())


class TestShare:
    def test_about_the_share_of_the_connections_is_hit_and_the_same_ones_for_the_same_seed(self) -> None:
        fault = TcpFault("reset", share=0.3, seed=4)
        hit = [number for number in range(1, 1001) if fault.hits(number)]
        assert hit == [number for number in range(1, 1001) if fault.hits(number)]
        assert 250 < len(hit) < 350
        assert hit != [number for number in range(1, 1001) if TcpFault("reset", share=0.3, seed=5).hits(number)]

    def test_connections_that_are_not_hit_live_on(self) -> None:
        async def survives(client: Client) -> bool:
            try:
                return await client.ask(b"y") == b"y"
            except (OSError, asyncio.IncompleteReadError):
                return False

        async def test() -> None:
            async with bench() as b:
                clients = [await b.connect() for _ in range(20)]
                for client in clients:
                    await client.ask(b"x")
                b.add("reset", share=0.5, seed=1)
                alive = [await survives(client) for client in clients]
                expected = [not TcpFault("reset", share=0.5, seed=1).hits(number) for number in range(1, 21)]
                assert alive == expected
                assert b.proxy.stats()["faults"]["reset"]["connections_hit"] == 20 - sum(alive)

        run(test())


def test_two_faults_on_one_connection_both_work() -> None:
    async def test() -> None:
        async with bench() as b:
            client = await b.connect()
            b.add("latency", "upstream", delay_s=0.05)
            b.add("slicer", "upstream", bytes=3, delay_s=0)
            assert await seconds(client.ask(b"0123456789")) >= 0.045

    run(test())


class TestFaultAsData:
    def test_an_unknown_kind_names_those_there_are(self) -> None:
        with pytest.raises(FaultError, match="no TCP fault 'slow'; there are: latency, jitter"):
            TcpFault("slow")

    def test_an_unknown_setting_names_those_of_the_kind(self) -> None:
        with pytest.raises(FaultError, match="latency has no setting 'delay'; it has: delay_s"):
            TcpFault("latency", settings={"delay": 1})

    @pytest.mark.parametrize(
        "wrong", [{"share": 0}, {"share": 1.5}, {"direction": "up"}, {"settings": {"delay_s": -1}}], ids=str
    )
    def test_numbers_out_of_range_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(FaultError):
            TcpFault("latency", **wrong)


class TestControl:
    @pytest.mark.parametrize(
        ("line", "says"),
        [
            (b"not json", "Expecting value"),
            (b'{"command": "explode", "proxy": "pg"}', "explode"),
            (b'{"command": "stats", "proxy": "pg"}', "pg"),
            (b'{"proxy": "pg"}', "command"),
            (b"[]", "'str' object"),
        ],
    )
    def test_a_wrong_command_is_answered_with_an_error(self, line: bytes, says: str) -> None:
        assert says in Control().answer(line)["error"]

    def test_the_process_listens_breaks_counts_clears_and_ends_with_its_pipe(self) -> None:
        async def test() -> None:
            async with bench() as b, ProxyProcess() as proxies:
                port = await proxies.listen("service", host="127.0.0.1", port=b.proxy.port)
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                client = Client(reader, writer)
                plain_s = await seconds(client.ask(b"x"))
                await proxies.add("service", "slow", TcpFault("latency", "upstream", settings={"delay_s": 0.05}))
                assert await seconds(client.ask(b"x")) > plain_s
                stats = await proxies.stats("service")
                assert stats.accepted == 1
                assert stats.faults["slow"]["connections_hit"] == 1
                await proxies.clear("service")
                await proxies.reset_stats("service")
                assert (await proxies.stats("service")).faults == {}
                with pytest.raises(FaultError, match="other"):
                    await proxies.stats("other")
                writer.close()
            assert proxies._process is not None
            assert proxies._process.returncode == 0

        run(test())


def test_every_kind_is_documented_and_has_a_function_or_a_reason_not_to() -> None:
    for name, kind in FAULT_KINDS.items():
        assert kind.says, name
        assert kind.on_chunk or kind.on_hit or kind.whole_listener, name
    assert len(set(itertools.chain(FAULT_KINDS))) >= 10


def test_a_cancelled_command_leaves_its_answer_to_nobody() -> None:
    async def test() -> None:
        async with ProxyProcess() as proxies:
            await proxies.listen("service", host="127.0.0.1", port=1)
            for _ in range(20):
                asked = asyncio.ensure_future(proxies.stats("service"))
                await asyncio.sleep(0)
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
                assert (await proxies.stats("service")).accepted == 0
                await proxies.clear("service")

    run(test())
