"""Opens as many connections as it is told to each of some places, and goes on with those that are closed, until its standard
input ends. Says so once all were tried.

flood.py silent|calls EACH PLACE...      a place is the path of a socket, or HOST:PORT
"""

import errno, resource, selectors, socket, struct, sys, time

mode, each, places = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
# So many calls on each connection, of which none is ever finished, each with so many parts of a message that is longer.
CALLS, PARTS, PART = 30, 30, 2000
# What HTTP/2 lets one send before the other end says more.
WINDOW = 65_535
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8


def frame(kind, flags, stream, body):
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def field(name, value):
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def calls():
    """What to say: pieces, each with what it takes of the window."""
    headers = b"".join(
        field(*pair)
        for pair in [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/vsm.broker.v1.Broker/Login"),
            (b":authority", b"x"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        ]
    )
    streams = range(1, 2 * CALLS, 2)
    begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"")
    said = [(begin + b"".join(frame(HEADERS, 4, stream, headers) for stream in streams), 0)]
    for part in range(PARTS):
        # The first tells the length.
        body = b"\0" + struct.pack(">I", 65_000) if part == 0 else b""
        body += bytes(PART - len(body))
        said += [(frame(DATA, 0, stream, body), PART) for stream in streams]
    return said


opening = calls() if mode == "calls" else []
watched = selectors.DefaultSelector()
watched.register(sys.stdin, selectors.EVENT_READ)
held = dict.fromkeys(places, 0)


class One:
    """A connection, and what it has still to say."""

    def __init__(self, place):
        self.place, self.since = place, time.monotonic()
        self.next, self.window, self.left, self.heard = 0, WINDOW, b"", b""
        if place.startswith("/"):
            self.socket, where = socket.socket(socket.AF_UNIX), place
        else:
            host, port = place.rsplit(":", 1)
            self.socket, where = socket.socket(), (host, int(port))
        self.socket.setblocking(False)
        try:
            self.socket.connect(where)
        except OSError as error:
            if error.errno != errno.EINPROGRESS:
                self.socket.close()
                return
        held[place] += 1
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if opening else 0)
        watched.register(self.socket, events, self)

    def end(self):
        watched.unregister(self.socket)
        self.socket.close()
        held[self.place] -= 1
        # One that was had for a while is had again at once; one that was refused is tried again in its turn.
        if time.monotonic() - self.since > 1:
            One(self.place)

    def say(self):
        while not self.left and self.next < len(opening) and opening[self.next][1] <= self.window:
            self.left, cost = opening[self.next]
            self.window -= cost
            self.next += 1
            self.left = self.left[self.socket.send(self.left) :]
        if self.left:
            self.left = self.left[self.socket.send(self.left) :]
        else:
            watched.modify(self.socket, selectors.EVENT_READ, self)

    def hear(self):
        more = self.socket.recv(65536)
        if not more:
            return self.end()
        self.heard += more
        while len(self.heard) >= 9:
            length = int.from_bytes(self.heard[:3], "big")
            if len(self.heard) < 9 + length:
                return
            kind, stream = self.heard[3], int.from_bytes(self.heard[5:9], "big")
            if kind == WINDOW_UPDATE and stream == 0:
                self.window += int.from_bytes(self.heard[9:13], "big")
                watched.modify(self.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
            self.heard = self.heard[9 + length :]

    def attend(self, events):
        try:
            if events & selectors.EVENT_READ:
                self.hear()
            elif events & selectors.EVENT_WRITE:
                self.say()
        except BlockingIOError:
            pass
        except OSError:
            self.end()


def attend(seconds):
    """Whatever there is to do with those that are open, for so long, or once."""
    until = time.monotonic() + seconds
    while True:
        for key, events in watched.select(max(0, until - time.monotonic())):
            if key.fileobj is sys.stdin:
                sys.exit()
            key.data.attend(events)
        if time.monotonic() >= until:
            return


rounds = 0
while True:
    for place in places:
        for _ in range(each - held[place]):
            One(place)
        attend(0)
    attend(0.5)
    rounds += 1
    if rounds == 2:
        print("all", flush=True)
