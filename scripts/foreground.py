#!/usr/bin/env python3
"""Runs a command as the terminal's foreground process group, and exits as it did.

    foreground.py COMMAND [ARGUMENT...]

Ctrl-C interrupts every process of the foreground group. Make is in that group, waits for its child
and then dies of the signal. So `make up` would report 130 although the supervisor stopped
everything in order and exited 0. With a group of its own, only the command receives the keys, and
its exit code counts.

This process forwards signals that others send to it (make forwards TERM to its child). If the
terminal goes away, it asks the command to stop. Without a terminal, the command replaces this
process.
"""

import os
import select
import signal
import sys


def main() -> int:
    command = sys.argv[1:]
    if not command:
        print("usage: foreground.py COMMAND [ARGUMENT...]", file=sys.stderr)
        return 100
    if not os.isatty(0) or os.tcgetpgrp(0) != os.getpgrp():
        os.execvp(command[0], command)

    # The signal that arrives here, and the one that the command receives. A shell sends HUP when
    # its terminal closes; to the supervisor, HUP would mean "scan again".
    forwarded = {
        signal.SIGTERM: signal.SIGTERM,
        signal.SIGINT: signal.SIGINT,
        signal.SIGQUIT: signal.SIGQUIT,
        signal.SIGHUP: signal.SIGTERM,
    }
    signal.pthread_sigmask(signal.SIG_BLOCK, forwarded)
    # The process that hands the terminal over is in the background for a moment.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    # Every signal, SIGCHLD included, makes this pipe readable, so one poll waits for everything.
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)

    ours = os.getpgrp()
    child = os.fork()
    if child == 0:
        # Parent and child both set the group, because either may be first.
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, forwarded)
        try:
            os.execvp(command[0], command)
        except OSError as error:
            print(f"error: cannot execute {command[0]}: {error.strerror}", file=sys.stderr)
            os._exit(127)

    try:
        os.setpgid(child, child)
    except OSError:
        pass  # The child has already executed the command, and so has set its group itself.
    for number in forwarded:
        signal.signal(number, lambda number, _: os.kill(child, forwarded[number]))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, forwarded)

    events = select.poll()
    events.register(woken, select.POLLIN)
    events.register(0, 0)  # only its end
    while True:
        ready = dict(events.poll())
        if woken in ready:
            os.read(woken, 4096)
        if 0 in ready:
            events.unregister(0)
            os.kill(child, signal.SIGTERM)
        ended, status = os.waitpid(child, os.WUNTRACED | os.WNOHANG)
        if ended and os.WIFSTOPPED(status):
            # Ctrl-Z: there is no job control between make and the command, so the command is
            # continued.
            os.kill(child, signal.SIGCONT)
        elif ended:
            break
    try:
        os.tcsetpgrp(0, ours)
    except OSError:
        pass  # The terminal is gone.
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


if __name__ == "__main__":
    sys.exit(main())
