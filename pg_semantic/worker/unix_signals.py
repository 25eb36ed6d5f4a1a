"""Signals as bytes on a socket: the main thread can wait for them, and no handler interrupts what it is doing."""

import signal
import socket


def listen(*numbers: signal.Signals) -> socket.socket:
    """Redirects signals to a socket. Call it on the main thread.

    Returns:
        A socket on which each of these signals arrives as a byte with its number.
    """
    signals, wakeup = socket.socketpair()
    wakeup.settimeout(0)
    signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: wakeup)  # does nothing but keep the socket open
    return signals
