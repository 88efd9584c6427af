"""Beam's embedded runner with forked workers: the default on one machine.

Beam's own multi-processing mode starts a fresh interpreter a worker, which imports Beam again (3 s each) and loads the
encoders again. Here the workers are forked from a process that has done both, before any thread or channel exists;
what they share stays shared. They speak Beam's own worker protocol, unchanged. A worker that dies ends the run at
once: Beam would wait for it forever.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner, worker_handlers
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.worker import sdk_worker_main
from google.protobuf import json_format, text_format

from pipelines import graph
from pipelines.lifetimes import die_with_parent
from pipelines.requests import RunRequest
from pipelines.turns import Turns
from transforms import SplitReference


class ForkedWorkers:
    """Worker processes that wait, with everything loaded, to be told where Beam's control service listens."""

    def __init__(self, count: int) -> None:
        self.pids: list[int] = []
        self._sockets: list[socket.socket] = []
        self._next = 0
        parent = os.getpid()
        for _ in range(count):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                for other in (*self._sockets, ours):
                    other.close()
                _work(theirs, parent)
            theirs.close()
            self.pids.append(pid)
            self._sockets.append(ours)

    def start_next(self, environment: dict[str, str]) -> None:
        """Tell the next waiting worker where to connect."""
        self._sockets[self._next].sendall(json.dumps(environment).encode() + b"\n")
        self._next += 1

    def watch(self, on_death: Callable[[int, int], None]) -> None:
        """Call `on_death(pid, status)` if a worker ends badly; a daemon thread waits for it."""

        def wait(pid: int) -> None:
            _, status = os.waitpid(pid, 0)
            if status != 0:
                on_death(pid, status)

        for pid in self.pids:
            threading.Thread(target=wait, args=(pid,), name=f"watch-{pid}", daemon=True).start()


def _work(control: socket.socket, parent: int) -> None:
    """Be a worker: wait for the address, then run Beam's worker until it is told to stop. Never returns."""
    status = 1
    try:
        die_with_parent(parent)
        line = control.makefile("rb").readline()
        if line:
            os.environ.update(json.loads(line))
            sdk_worker_main.main([])
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


class _ForkedWorkerHandler(worker_handlers.GrpcWorkerHandler):
    """Beam's handle on a worker process, for workers that were forked beforehand."""

    def __init__(self, _: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)

    def start_worker(self) -> None:
        assert _workers is not None
        options = json_format.MessageToJson(self.provision_info.provision_info.pipeline_options)
        _workers.start_next(
            {
                "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(self.control_api_service_descriptor()),
                "PIPELINE_OPTIONS": options,
                "WORKER_ID": self.worker_id,
            }
        )

    def stop_worker(self) -> None:
        pass  # closing the control channel ends it; the launcher kills what is left


# Beam makes handlers and workers' functions itself and passes them no context of ours; workers forked from here have
# what stands here. A driver process runs one pipeline.
_workers: ForkedWorkers | None = None
_references: Sequence[SplitReference] = ()
_turns: Turns | None = None


def _draw() -> Iterator[SplitReference]:
    """Yield the references whose turn comes to this worker."""
    assert _turns is not None
    yield from _turns.draw(_references)


def run_embedded(
    request: RunRequest, references: Sequence[SplitReference], on_worker_death: Callable[[int, int], None]
) -> None:
    """Run the graph on this machine: in this process for one worker, in forked ones for more.

    Must be called before this process has started any thread.
    """
    global _workers, _references, _turns
    _references, _turns = references, Turns()
    arguments = ["--direct_num_workers=1", "--direct_running_mode=in_memory"]
    workers = min(request.workers, len(references))
    if workers > 1:
        _workers = ForkedWorkers(workers)
        _workers.watch(on_worker_death)
        arguments = [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
        worker_handlers.WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)(_ForkedWorkerHandler)
    options = PipelineOptions(arguments)
    # The plain runner gives its workers empty options.
    provision = beam_provision_api_pb2.ProvisionInfo(
        pipeline_options=JobServiceHandle.encode_pipeline_options(options.get_all_options())
    )
    runner = fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(provision))
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        graph.build(graph.drawn(pipeline, workers, _draw), request)
