"""Starts the order system against a running coordinator, and ends it cleanly."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys

from coordinator_sdk import Client, ConnectFailed

PARTS = {
    "viewer": "viewer",
    "orders-1": "web",
    "orders-2": "web",
    "worker-1": "worker",
    "worker-2": "worker",
    "worker-3": "worker",
    "scheduler-1": "scheduler",
    "scheduler-2": "scheduler",
    "customer": "customer",
}
LAST = ("viewer",)
"""Ended after the others, so that it can show their end."""
END_SECONDS = 6.0

Processes = dict[str, asyncio.subprocess.Process]


async def find_coordinator() -> str:
    """Make sure that a coordinator answers; gives its address."""
    async with Client(connect_timeout=3) as client:
        return client.endpoint


async def start(name: str, module: str) -> asyncio.subprocess.Process:
    """Start one part."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"examples.order_system.{module}",
        env={**os.environ, "COORDINATOR_APPLICATION": name},
        stdin=asyncio.subprocess.DEVNULL,
    )


async def end(processes: Processes) -> None:
    """Ask parts to end, and make them if they do not."""
    for process in processes.values():
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
    waiting = [asyncio.ensure_future(process.wait()) for process in processes.values()]
    if not waiting:
        return
    await asyncio.wait(waiting, timeout=END_SECONDS)
    for name, process in processes.items():
        if process.returncode is None:
            print(f"{name} does not end; killing it", flush=True)
            process.kill()
    await asyncio.gather(*waiting)


async def tell_ends(processes: Processes, stop: asyncio.Event) -> None:
    """Say so when a part ends by itself; when all have, so does the demo."""

    async def tell(name: str, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if not stop.is_set():
            how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            print(f"{name:<12} {how}", flush=True)

    await asyncio.gather(*(tell(name, process) for name, process in processes.items()))
    stop.set()


async def demo(seconds: float | None) -> int:
    """Run the system until it has run long enough, or a signal comes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        address = await find_coordinator()
    except ConnectFailed as error:
        print(f"{error}", file=sys.stderr)
        print("Start one in another terminal with `make run`,", file=sys.stderr)
        print("or name another one: COORDINATOR_ENDPOINTS=http://host:port", file=sys.stderr)
        return 1
    print(f"The order system on {address}; open it in a browser. Ctrl-C ends it.", flush=True)
    processes: Processes = {}
    try:
        for name, module in PARTS.items():
            processes[name] = await start(name, module)
            print(f"{name:<12} started, pid {processes[name].pid}", flush=True)
        telling = asyncio.create_task(tell_ends(processes, stop))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()
        stop.set()
        telling.cancel()
    finally:
        print("ending", flush=True)
        await end({name: one for name, one in processes.items() if name not in LAST})
        await end({name: one for name, one in processes.items() if name in LAST})
    codes = {name: one.returncode for name, one in processes.items()}
    failed = [f"{name}: {code}" for name, code in codes.items() if code and code > 0]
    print("all parts have ended" + (f"; failed: {', '.join(failed)}" if failed else ""), flush=True)
    return 1 if failed else 0


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.order_system",
        description="An order system of several processes. The address of the coordinator comes "
        "from COORDINATOR_ENDPOINTS.",
    )
    parser.add_argument(
        "--seconds", type=float, default=None, help="how long to run; until Ctrl-C unless given"
    )
    return asyncio.run(demo(parser.parse_args().seconds))


if __name__ == "__main__":
    sys.exit(main())
