"""Job runners of the executor: Galaxy's own, where they are slow or would take a lost job for a finished one.

`SlurmRunner` is Galaxy's cli runner. It differs in this:

- Metadata are set by a process forked from one that has imported Galaxy already (omtd_warm), and then the job is
  finished, in this order. Galaxy's cli runner queues both at once for its threads: finishing may win, and takes away
  the directory that the other one needs ("Failed to find metadata/params.json").
- One `squeue` a poll answers for all jobs, those that ended minutes ago included; only jobs it has forgotten are asked
  of `sacct`, all at once. Commands return when they end: Galaxy's LocalShell sleeps 3 s where one takes over 0.1 s.
- A job that left no exit code (its node died, it was cancelled, the disk was full) is an error that says why. Galaxy
  takes a missing exit code for 0, and an empty output for a result.
- `sbatch` gets a clean environment, so that Galaxy's secrets do not travel to the nodes.

`GalaxyToolRunner` is Galaxy's local runner for tools that come with Galaxy, and only for them: uploads are fetched by
a forked process too.
"""

import logging
import multiprocessing
import os
import shlex
import subprocess
import threading
import time
from multiprocessing import connection, forkserver
from pathlib import Path

import galaxy.tools
import omtd_warm
from galaxy import model
from galaxy.jobs.runners import AsynchronousJobState, JobState
from galaxy.jobs.runners.cli import ShellJobRunner
from galaxy.jobs.runners.local import LocalJobRunner
from galaxy.util.bunch import Bunch

log = logging.getLogger("galaxy.jobs.runners.omtd")

__all__ = ("GalaxyToolRunner", "SlurmRunner")

# how often a piece of work looks whether its job was deleted
LOOK_SECONDS = 2
SLURM_COMMAND_SECONDS = 60
# slurmdbd hears of a job's end a little later than squeue's users
UNKNOWN_JOB_SECONDS = 60
# Galaxy's states for Slurm's; a failed one is finished, because the tool's own exit code says more
WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"}
ACTIVE = {"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"}
ENDED = {"COMPLETED", "FAILED"}
# not of Slurm: it did not answer
NO_ANSWER = "NO_ANSWER"
REASONS = {
    "BOOT_FAIL": "its node did not boot; run the job again",
    "CANCELLED": "it was cancelled in Slurm; run the job again",
    "DEADLINE": "it could not end before its deadline",
    "NODE_FAIL": "its node failed; run the job again",
    "OUT_OF_MEMORY": "it used more memory than it was given; give the tool more (ram_min in its wrapper)",
    "PREEMPTED": "it was pushed aside by another job; run the job again",
    "REVOKED": "Slurm revoked it; run the job again",
    "TIMEOUT": "it ran longer than it may; give the tool more time",
}
RUNNER_STATES = {
    "OUT_OF_MEMORY": JobState.runner_states.MEMORY_LIMIT_REACHED,
    "TIMEOUT": JobState.runner_states.WALLTIME_REACHED,
}


class WarmWorkError(Exception):
    """A process forked from the warm one ended with a code other than 0."""


class Warm:
    """A process that has imported Galaxy's code once and forks for each piece of work (omtd_warm)."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        # every child imports the main program of its parent, here gunicorn's: keep that warm too
        self._context.set_forkserver_preload(["omtd_warm", "gunicorn.app.wsgiapp"])
        # starting a process looks after ended ones, and so would steal another thread's exit code
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the warm process, and do not wait for it."""
        forkserver.ensure_running()

    def run(self, work, *arguments, wanted=lambda: True) -> None:
        """Do the work in a forked process, as long as it is wanted; raises WarmWorkError."""
        process = self._context.Process(target=work, args=arguments, daemon=True)
        with self._lock:
            process.start()
        while not connection.wait([process.sentinel], LOOK_SECONDS):
            if not wanted():
                process.kill()
        with self._lock:
            process.join()
            code = process.exitcode
            process.close()
        if code != 0:
            raise WarmWorkError(f"{work.__name__} ended with code {code}")


WARM = Warm()


def is_wanted(job_wrapper) -> bool:
    """Say whether the job's result is still wanted: nobody deleted or stopped it."""
    states = model.Job.states
    return job_wrapper.get_state() not in (states.DELETED, states.DELETING, states.STOPPED, states.ERROR)


class WarmMetadata:
    """Sets metadata after a job by a forked process; where that fails, the way Galaxy does."""

    def _handle_metadata_externally(self, job_wrapper, resolve_requirements=False) -> None:
        if not is_wanted(job_wrapper):
            return
        job_wrapper.setup_external_metadata(
            output_fnames=job_wrapper.job_io.get_output_fnames(),
            set_extension=True,
            tmp_dir=job_wrapper.working_directory,
            kwds={"overwrite": False},
        )
        try:
            WARM.run(omtd_warm.set_metadata, job_wrapper.working_directory, wanted=lambda: is_wanted(job_wrapper))
        except Exception:
            log.exception("(%s) setting metadata by a forked process failed", job_wrapper.get_id_tag())
            super()._handle_metadata_externally(job_wrapper, resolve_requirements=resolve_requirements)


class SlurmRefusedError(Exception):
    """Slurm did not take a job."""


class SlurmShell:
    """Runs Slurm's commands, without Galaxy's environment and its secrets."""

    def __init__(self) -> None:
        self._environment = {
            name: os.environ[name] for name in ("PATH", "HOME", "LANG", "SLURM_CONF") if name in os.environ
        }

    def execute(self, command, directory="/", **_ignored):
        """Run a command, given as a string or a list; the answer has returncode, stdout and stderr."""
        try:
            done = subprocess.run(
                shlex.split(command) if isinstance(command, str) else command,
                cwd=directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SLURM_COMMAND_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            return Bunch(returncode=1, stdout="", stderr=str(exc))
        return Bunch(returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


class SlurmRunner(WarmMetadata, ShellJobRunner):
    """Galaxy's cli runner for Slurm on this host; see the head of this file for what differs."""

    runner_name = "SlurmRunner"

    def __init__(self, app, nworkers, **kwargs) -> None:
        super().__init__(app, nworkers)
        self._slurm = SlurmShell()
        self._unknown_since: dict[str, float] = {}
        WARM.start()

    def get_cli_plugins(self, shell_params, job_params):
        """Give Slurm's plugin of Galaxy, and our shell."""
        return self._slurm, self.cli_interface.get_job_interface(job_params)

    # -------------------------------------------------------------- submit
    def queue_job(self, job_wrapper) -> None:
        """Submit a job; one that Slurm refuses fails with Slurm's own words."""
        try:
            super().queue_job(job_wrapper)
        except SlurmRefusedError as exc:
            job_wrapper.fail(f"Slurm did not take the job: {exc}")

    def submit(self, shell, job_interface, job_file, galaxy_id_tag, retry=3, timeout=10):  # noqa: PLR0917 as in Galaxy
        """Submit a script from its own directory, which nodes have too; raises SlurmRefusedError in the end."""
        answer = shell.execute(job_interface.submit(shlex.quote(job_file)), directory=str(Path(job_file).parent))
        if answer.returncode == 0:
            return 0, answer.stdout
        if retry <= 0:
            raise SlurmRefusedError(answer.stderr.strip() or "sbatch said nothing")
        log.warning("(%s) sbatch failed, trying again in %s s: %s", galaxy_id_tag, timeout, answer.stderr.strip())
        time.sleep(timeout)
        return self.submit(shell, job_interface, job_file, galaxy_id_tag, retry=retry - 1, timeout=timeout)

    # -------------------------------------------------------------- watch
    def check_watched_items(self) -> None:
        """Ask Slurm for the states of all watched jobs at once, and act on each."""
        if self.watched:
            states = self._slurm_states({ajs.job_id for ajs in self.watched})
            self.watched = [ajs for ajs in self.watched if self._is_still_watched(ajs, states.get(ajs.job_id))]

    def _slurm_states(self, job_ids: set[str]) -> dict[str, str]:
        # squeue fails as a whole when it knows none of the jobs; sacct is asked then, and says if Slurm is away
        jobs = ",".join(sorted(job_ids))
        answer = self._slurm.execute(
            ["squeue", "--noheader", "--all", "--states=all", "--format=%A %T", f"--jobs={jobs}"]
        )
        states = dict(line.split()[:2] for line in answer.stdout.splitlines() if len(line.split()) >= 2)
        if forgotten := job_ids - set(states):
            answer = self._slurm.execute(
                ["sacct", "-X", "-n", "-P", "-D", "-o", "JobIDRaw,State", "-j", ",".join(sorted(forgotten))]
            )
            for line in answer.stdout.splitlines():
                job_id, _separator, state = line.partition("|")
                states[job_id] = state.split()[0] if state.split() else ""
            if answer.returncode != 0:
                log.warning("Slurm does not answer, asking again: %s", answer.stderr.strip())
                states.update(dict.fromkeys(forgotten - set(states), NO_ANSWER))
        return states

    def _is_still_watched(self, ajs: AsynchronousJobState, slurm_state: str | None) -> bool:
        states = model.Job.states
        job_state = ajs.job_wrapper.get_state()
        if job_state in (states.DELETED, states.DELETING):
            return False
        if job_state == states.STOPPED:
            self.work_queue.put((self.finish_job, ajs))
            return False
        if slurm_state is None:
            return self._await_unknown(ajs)
        self._unknown_since.pop(ajs.job_id, None)
        if slurm_state == NO_ANSWER:
            return True
        if slurm_state in WAITING | ACTIVE:
            galaxy_state = states.RUNNING if slurm_state in ACTIVE else states.QUEUED
            ajs.running = galaxy_state == states.RUNNING
            if galaxy_state != ajs.old_state:
                ajs.job_wrapper.change_state(galaxy_state)
                ajs.old_state = galaxy_state
            return True
        if slurm_state in ENDED:
            self.work_queue.put((self.finish_job, ajs))
        else:
            self._give_up(ajs, REASONS.get(slurm_state, f"Slurm says {slurm_state}"), RUNNER_STATES.get(slurm_state))
        return False

    def _await_unknown(self, ajs: AsynchronousJobState) -> bool:
        since = self._unknown_since.setdefault(ajs.job_id, time.monotonic())
        if time.monotonic() - since < UNKNOWN_JOB_SECONDS:
            return True
        del self._unknown_since[ajs.job_id]
        self._give_up(ajs, "Slurm does not know it; run the job again")
        return False

    def _give_up(self, ajs: AsynchronousJobState, reason: str, runner_state=None) -> None:
        ajs.fail_message = f"Job {ajs.job_id} of Slurm ended without a result: {reason}"
        ajs.runner_state = runner_state or JobState.runner_states.UNKNOWN_ERROR
        # nothing is left in Slurm to stop
        ajs.stop_job = False
        self.work_queue.put((self.fail_job, ajs))

    # -------------------------------------------------------------- finish
    def finish_job(self, job_state: AsynchronousJobState) -> None:
        """Set metadata, then finish; a job without an exit code has not finished, whatever Slurm says."""
        wrapper = job_state.job_wrapper
        if is_wanted(wrapper):
            if not self._has_exit_code(job_state):
                self._give_up(job_state, self._last_words(job_state))
                return
            self._handle_metadata_externally(wrapper, resolve_requirements=True)
        super().finish_job(job_state)

    def _has_exit_code(self, job_state: AsynchronousJobState) -> bool:
        # written on a node: a shared directory may show it a little later
        for attempt in range(self.app.config.retry_job_output_collection + 1):
            if attempt:
                time.sleep(1)
            try:
                if Path(job_state.exit_code_file).read_text().strip().isdigit():
                    return True
            except OSError:
                continue
        return False

    def _last_words(self, job_state: AsynchronousJobState) -> str:
        try:
            words = Path(job_state.error_file).read_text(errors="replace").strip()
        except OSError:
            words = ""
        return f"it left no exit code: {words[-500:] or 'and no message; see the log of its node'}"


class GalaxyToolRunner(WarmMetadata, LocalJobRunner):
    """Galaxy's local runner for the tools that come with Galaxy: no component runs on this host."""

    runner_name = "GalaxyToolRunner"
    OWN_TOOLS = Path(galaxy.tools.__file__).resolve().parent.parent

    def _embed_metadata(self, job_wrapper) -> bool:
        return False

    def queue_job(self, job_wrapper) -> None:
        """Run a tool of Galaxy's own; uploads by a forked process, others the way Galaxy does."""
        source = getattr(job_wrapper.tool, "config_file", None)
        if not source or not Path(source).resolve().is_relative_to(self.OWN_TOOLS):
            job_wrapper.fail(f"{job_wrapper.tool.id} is no tool of Galaxy's own: only those run on the executor")
        elif job_wrapper.tool.id == "__DATA_FETCH__":
            self._fetch(job_wrapper)
        else:
            super().queue_job(job_wrapper)

    def _fetch(self, job_wrapper) -> None:
        if not self._prepare_job_local(job_wrapper):
            return
        outputs = Path(job_wrapper.working_directory, "outputs")
        outputs.mkdir(exist_ok=True)
        job_wrapper.change_state(model.Job.states.RUNNING)
        # python '…/data_fetch.py' --galaxy-root … --request …
        arguments = shlex.split(job_wrapper.get_command_line())[2:]
        code = 0
        try:
            WARM.run(
                omtd_warm.fetch,
                job_wrapper.tool_working_directory,
                arguments,
                str(outputs / "tool_stdout"),
                str(outputs / "tool_stderr"),
                wanted=lambda: is_wanted(job_wrapper),
            )
        except Exception:
            log.exception("(%s) fetching failed", job_wrapper.get_id_tag())
            code = 1
        job_state = JobState(job_wrapper, job_wrapper.job_destination)
        job_state.stop_job = False
        Path(job_state.exit_code_file).write_text(str(code))
        for name in ("tool_stdout", "tool_stderr"):
            (outputs / name).touch()
        self._handle_metadata_if_needed(job_wrapper)
        self._finish_or_resubmit_job(job_state, "", "", job_id=job_wrapper.get_id_tag())
