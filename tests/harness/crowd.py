"""Many hostile connections from one cheap thread: each has bytes to send, at its own pace, and
reads nothing unless it is asked to."""

import errno
import itertools
import selectors
import socket
import time

CONNECT_SECONDS_MAX = 10
SEND_BYTES = 1 << 18


class Member:
    """One connection and what it still has to say; `pieces` yields bytes, `None` for a pause."""

    def __init__(self, connection, pieces, pace_seconds, reads):
        self.socket, self.pieces, self.pace = connection, iter(pieces), pace_seconds
        self.reads = reads
        self.left = memoryview(b"")
        self.next_at = 0.0
        self.closed = self.silent = False
        self.received = 0


class Crowd:
    """Connections to one place, from one source address after the other."""

    def __init__(self, address, sources=("127.0.0.2",)):
        host, port = address.rsplit(":", 1)
        self.address, self.sources = (host, int(port)), itertools.cycle(sources)
        self.members = []
        self.selector = selectors.DefaultSelector()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def join(self, count, pieces=tuple, pace_seconds=0.0, reads=False, receive_bytes=None):
        """`pieces()` makes what each of them sends; with a pace, one piece each so many seconds."""
        for _ in range(count):
            source = next(self.sources)
            connection = socket.socket()
            if receive_bytes:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            connection.settimeout(CONNECT_SECONDS_MAX)
            connection.bind((source, 0))
            try:
                connection.connect(self.address)
            except OSError:
                connection.close()
                continue
            connection.setblocking(False)
            member = Member(connection, pieces(), pace_seconds, reads)
            self.members.append(member)
            self.selector.register(connection, self.interest(member), member)
        return self

    def interest(self, member):
        write = selectors.EVENT_WRITE if not member.silent and not member.pace else 0
        return write | selectors.EVENT_READ

    def press_on(self, seconds):
        """Sends what there is to send for so long."""
        deadline = time.monotonic() + seconds
        while (now := time.monotonic()) < deadline:
            busy = False
            for key, events in self.selector.select(min(0.02, deadline - now)):
                member = key.data
                if events & selectors.EVENT_READ:
                    busy |= self.read(member)
                if events & selectors.EVENT_WRITE and not member.closed:
                    busy |= self.write(member)
            now = time.monotonic()
            for member in self.members:
                if member.pace and not member.closed and now >= member.next_at:
                    member.next_at = now + member.pace
                    self.write(member)
            if not busy:
                # Level-triggered and nothing to be done: do not spin on unread replies.
                time.sleep(0.005)
        return self

    def read(self, member):
        """Who does not read only looks whether the other side has closed."""
        flags = 0 if member.reads else socket.MSG_PEEK
        try:
            got = member.socket.recv(1 << 16 if member.reads else 1, flags)
        except BlockingIOError:
            return False
        except OSError:
            got = b""
        if not got:
            self.gone(member)
        elif not member.reads:
            # There will always be something to read: ask no more.
            self.change(member, self.interest(member) & ~selectors.EVENT_READ)
        member.received += len(got)
        return bool(got) and member.reads

    def change(self, member, interest):
        if interest:
            self.selector.modify(member.socket, interest, member)
        else:
            self.selector.unregister(member.socket)

    def write(self, member):
        if not member.left:
            piece = next(member.pieces, None)
            if piece is None:
                member.silent = True
                if not member.pace and member.socket.fileno() in self.selector.get_map():
                    self.change(member, selectors.EVENT_READ)
                return False
            member.left = memoryview(piece)
        try:
            sent = member.socket.send(member.left[:SEND_BYTES])
        except BlockingIOError:
            return False
        except OSError as error:
            assert error.errno in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN), error
            self.gone(member)
            return False
        member.left = member.left[sent:]
        return True

    def gone(self, member):
        member.closed = True
        if member.socket.fileno() in self.selector.get_map():
            self.selector.unregister(member.socket)

    def open(self):
        """How many the other side has not closed; who reads nothing notices by its kernel."""
        def is_open(member):
            if member.closed:
                return False
            try:
                # SO_ERROR of a reset connection; a closed one ends its unread bytes with nothing.
                return not member.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) \
                    and member.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1
            except OSError:
                return False
        return sum(is_open(member) for member in self.members)

    def close(self):
        for member in self.members:
            member.closed = True
            member.socket.close()
        self.selector.close()
