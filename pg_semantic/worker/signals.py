"""Signals as bytes on a socket: they can be waited for, and no handler interrupts what the main thread holds."""

import signal
import socket


def listen(*numbers: signal.Signals) -> socket.socket:
    """A socket on which each of these signals arrives from now on, as a byte of its number. For the main thread."""
    signals, wakeup = socket.socketpair()
    wakeup.settimeout(0)
    signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: wakeup)  # does nothing, and keeps the socket open
    return signals
