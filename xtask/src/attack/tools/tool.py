"""One thing that an attacker does. It says `won` or `lost` and why; whatever else happens is a fault of the attempt.

tool.py VERB ARGUMENT...
"""

import ctypes, errno, os, re, resource, select, socket, ssl, struct, subprocess, sys, time

DENIED = (errno.EACCES, errno.EPERM)
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


def won(text=""):
    print("won", str(text).replace("\n", " ")[:300])
    sys.exit(0)


def lost(text=""):
    print("lost", str(text).replace("\n", " ")[:300])
    sys.exit(0)


def denied(act, also=()):
    """What it returns; where it is not allowed the attempt is lost."""
    try:
        return act()
    except OSError as error:
        if error.errno in DENIED + tuple(also):
            lost(os.strerror(error.errno))
        raise


def read(path):
    won(f"{len(denied(lambda: open(path, 'rb').read(4096)))} bytes")


def listing(path):
    won(" ".join(denied(lambda: os.listdir(path))))


def write(path):
    """Only opens it, and changes nothing."""
    os.close(denied(lambda: os.open(path, os.O_WRONLY), [errno.EROFS]))
    won()


def create(path):
    os.close(denied(lambda: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), [errno.EROFS]))
    os.unlink(path)
    won()


def remove(path):
    """Moves it aside and back: what is taken for good would be missed by others."""
    aside = path + ".taken"
    denied(lambda: os.rename(path, aside))
    os.rename(aside, path)
    won()


def cgroup(pid, file, text):
    """Writes to a file of the control group that a process is in."""
    own = [line for line in open(f"/proc/{pid}/cgroup").read().splitlines() if line.startswith("0::")]
    path = "/sys/fs/cgroup" + own[0][3:] + "/" + file
    descriptor = denied(lambda: os.open(path, os.O_WRONLY))
    denied(lambda: os.write(descriptor, text.encode()))
    won(path)


def unix(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(10)
    peer.connect(path)
    return peer


def connect(path):
    denied(lambda: unix(path), [errno.ECONNREFUSED]).close()
    won()


def say(path, text, wanted):
    """Says a line and looks whether what is wanted is in the answer."""
    peer = denied(lambda: unix(path), [errno.ECONNREFUSED])
    peer.sendall(text.encode() + b"\n")
    answer, descriptors, _, _ = socket.recv_fds(peer, 65536, 4)
    text = answer.decode(errors="replace")
    won(text) if wanted in text else lost(text or "it hangs up")


def reachable(host, port):
    peer = socket.socket()
    peer.settimeout(3)
    try:
        peer.connect((host, port))
    except (ConnectionRefusedError, TimeoutError):
        return None
    except OSError as error:
        if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            return None
        raise
    return peer


def tcp(host, port):
    won("connected") if reachable(host, int(port)) else lost("refused")


def scan(host, known, first="1", last="65535"):
    """Whether any port answers that is not known."""
    known, found = {int(port) for port in known.split(",")}, []
    for port in range(int(first), int(last) + 1):
        peer = socket.socket()
        if peer.connect_ex((host, port)) == 0:
            found.append(port)
        peer.close()
    if not known <= set(found):
        raise SystemExit(f"of the known ports only {found} answer")
    other = sorted(set(found) - known)
    won(other) if other else lost(f"only {found}")


def bind(name):
    """Takes an abstract name and listens on it."""
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.bind("\0" + name)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            lost("somebody has it")
        raise
    peer.listen(1)
    won("listening")


def signal(pid):
    denied(lambda: os.kill(int(pid), 0))
    won()


def trace(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, int(pid), None, None):
        number = ctypes.get_errno()
        if number not in DENIED:
            raise OSError(number, os.strerror(number))
        lost(os.strerror(number))
    os.waitpid(int(pid), 0x40000000)
    libc.ptrace(17, int(pid), None, None)
    won()


def memory(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    where = next(line for line in denied(lambda: open(f"/proc/{pid}/maps").read()).splitlines() if " r" in line)
    start = int(where.split("-")[0], 16)
    own = ctypes.create_string_buffer(8)

    class Part(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    here, there = Part(ctypes.addressof(own), 8), Part(start, 8)
    if libc.process_vm_readv(int(pid), ctypes.byref(here), 1, ctypes.byref(there), 1, 0) != 8:
        lost(os.strerror(ctypes.get_errno()))
    won()


def display(number, cookie):
    """Looks at a display with a cookie file, with none (-), or with one that is guessed (guess)."""
    environment = {"PATH": "/usr/bin:/bin", "DISPLAY": f":{number}", "XAUTHORITY": cookie}
    if cookie == "guess":
        environment["XAUTHORITY"] = f"/tmp/guess-{os.getuid()}"
        words = ["xauth", "-q", "-f", environment["XAUTHORITY"], "add", f":{number}", ".", "00112233445566778899aabbccddeeff"]
        subprocess.run(words, check=True, env={"PATH": "/usr/bin:/bin"})
    elif cookie == "-":
        environment["XAUTHORITY"] = "/nonexistent"
    said = subprocess.run(["xdpyinfo"], env=environment, capture_output=True, text=True, timeout=20)
    if "vendor string" in said.stdout:
        won("the display answers")
    if not said.stderr.strip():
        raise SystemExit("xdpyinfo says nothing")
    lost(said.stderr.strip())


def environment_of(words):
    """`NAME=value` words at the beginning, and the rest."""
    names = {}
    while words and re.match(r"^[A-Z_]+=", words[0]):
        name, value = words.pop(0).split("=", 1)
        names[name] = value
    return names


def run(codes, *words):
    """Runs a program: won where it succeeds, lost where it ends with one of the codes."""
    words = list(words)
    environment = {**os.environ, **environment_of(words)}
    said = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60, stdin=subprocess.DEVNULL)
    text = (said.stderr.strip() or said.stdout.strip())[-250:]
    if said.returncode == 0:
        won(said.stdout.strip()[-250:])
    if str(said.returncode) in codes.split(","):
        lost(f"{said.returncode}: {text}")
    raise SystemExit(f"{words}: {said.returncode}: {text}")


def finds(wanted, *words):
    """Runs a program and looks whether what is wanted is in what it prints."""
    said = subprocess.run(list(words), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    if said.returncode not in (0, 1):
        raise SystemExit(f"{words}: {said.returncode}: {said.stderr}")
    hits = [line for line in said.stdout.splitlines() if re.search(wanted, line)]
    won(hits[0]) if hits else lost(f"not in {len(said.stdout.splitlines())} lines")


def service(line, *words):
    """Says the first line of a client to a program that ends at vsm-login: won where it goes on."""
    child = subprocess.Popen(list(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        child.stdin.write(line.encode().decode("unicode_escape").encode("latin1"))
        child.stdin.flush()
        if not line.endswith("\\n"):
            child.stdin.close()
    except BrokenPipeError:
        pass
    ready, _, _ = select.select([child.stdout], [], [], 40)
    answer = os.read(child.stdout.fileno(), 4096).decode(errors="replace") if ready else ""
    child.kill()
    why = child.stderr.read().decode(errors="replace").strip()
    if answer.startswith("ok"):
        won(answer.splitlines()[0])
    if answer.startswith("error"):
        lost(answer.splitlines()[0])
    if not answer and re.search("Permission denied|PTY allocation request failed|administratively prohibited|channel .* failed|Connection closed", why):
        lost(why[-200:])
    raise SystemExit(f"neither ok nor error: {answer!r} {why!r}")


def tls(host, port, version, identity="-", resume=""):
    """A handshake of a version, with an identity or without; with `resume` another one that goes on with the first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    context.set_alpn_protocols(["h2"])
    if identity != "-":
        context.load_cert_chain(f"{identity}/host.pem", f"{identity}/host.key")

    def shake(session):
        peer = context.wrap_socket(socket.create_connection((host, int(port)), 10), session=session)
        peer.settimeout(5)
        peer.sendall(HTTP2 + SETTINGS)
        if not peer.recv(65536):
            raise ssl.SSLError("it hangs up")
        return peer

    try:
        first = shake(None)
        if not resume:
            won(first.version())
        time.sleep(0.3)
        if first.session is None or not first.session.has_ticket:
            lost("there is nothing to resume")
        second = shake(first.session)
        won("resumed") if second.session_reused else lost("a new handshake")
    except (ssl.SSLError, ConnectionError) as error:
        lost(error)


def plain(place):
    """HTTP/2 without TLS: won where the other end speaks it."""
    if place.startswith("/"):
        peer = unix(place)
    else:
        host, port = place.rsplit(":", 1)
        peer = socket.create_connection((host, int(port)), 10)
    peer.settimeout(15)
    peer.sendall(HTTP2 + SETTINGS)
    try:
        heard = peer.recv(9)
    except ConnectionError as error:
        lost(error)
    won("it answers") if len(heard) == 9 and heard[3] == 4 else lost(f"{heard!r}")


def opened(place):
    if place.startswith("@"):
        peer, where = socket.socket(socket.AF_UNIX), "\0" + place[1:]
    elif place.startswith("/"):
        peer, where = socket.socket(socket.AF_UNIX), place
    else:
        host, port = place.rsplit(":", 1)
        peer, where = socket.socket(), (host, int(port))
    peer.setblocking(False)
    try:
        peer.connect(where)
    except BlockingIOError:
        pass
    except OSError as error:
        peer.close()
        if error.errno in (errno.EAGAIN, errno.ECONNREFUSED, errno.EMFILE):
            return None
        raise
    return peer


def flood(first, most, count, seconds, *places):
    """Opens connections, says the first words on each, and goes on with those that are closed; won where more than
    `most` are held at one place at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    words = {
        "silent": b"",
        "hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 100,
        "half": b"vsm/1 ",
        "calls": HTTP2 + SETTINGS + calls(),
        "settings": HTTP2 + SETTINGS * 1000,
        "ping": HTTP2 + SETTINGS + (b"\0\0\x08\x06\0\0\0\0\0" + b"\0" * 8) * 1000,
    }[first]
    held = {place: [] for place in places}
    until = time.monotonic() + float(seconds)
    while True:
        over = time.monotonic() >= until
        if over:
            # Where a packet was lost a connection is there at this end alone, which shows when something is said.
            tcp = [all for place, all in held.items() if not place.startswith(("/", "@"))]
            for peer in () if words else sum(tcp, []):
                try:
                    peer.send(b"\x16")
                except OSError:
                    pass
            # Those whose place another one has taken learn of it.
            time.sleep(2)
        for place, all in held.items():
            alive = []
            for peer in all:
                try:
                    while peer.recv(65536):
                        pass
                    peer.close()
                except BlockingIOError:
                    alive.append(peer)
                except OSError:
                    peer.close()
            all[:] = alive
            for _ in range(0 if over else int(count) - len(all)):
                peer = opened(place)
                if peer is None:
                    break
                try:
                    peer.send(words) if words and place.startswith(("/", "@")) else None
                except OSError:
                    peer.close()
                    continue
                all.append(peer)
            if words and not place.startswith(("/", "@")):
                _, ready, _ = select.select([], all[-900:] if all and all[-1].fileno() < 1000 else [], [], 0)
                for peer in ready:
                    try:
                        peer.send(words)
                    except OSError:
                        pass
        if over:
            break
        time.sleep(0.25)
    found = {place: len(all) for place, all in held.items()}
    won(found) if all_above(found, int(most)) else lost(found)


def all_above(found, most):
    return any(count > most for count in found.values())


def field(name, value):
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def calls():
    """The beginnings of a hundred calls, none of which is finished."""
    pairs = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/vsm.broker.v1.Broker/Login")]
    pairs += [(b":authority", b"x"), (b"content-type", b"application/grpc"), (b"te", b"trailers")]
    head = b"".join(field(*pair) for pair in pairs)
    frame = lambda stream: struct.pack(">I", len(head))[1:] + b"\x01\x04" + struct.pack(">I", stream) + head
    return b"".join(frame(stream) for stream in range(1, 200, 2))


def openings():
    path = b"/vsm.broker.v1.Broker/Login"

    def call(message):
        pairs = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x")]
        pairs += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
        head = b"".join(field(*pair) for pair in pairs)
        frame = lambda kind, flags, body: struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + b"\0\0\0\1" + body
        return HTTP2 + SETTINGS + frame(1, 4, head) + frame(0, 1, message)

    return [
        b"\0" * 300,
        b"garbage\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes((n * 7919) & 255 for n in range(5000)),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 100,
        b"\x16\x03\x01\xff\xff" + b"\x01" * 400,
        HTTP2,
        HTTP2 + b"\xff\xff\xff\1\4\0\0\0\1",
        HTTP2[:11],
        call(b"\0\0\0\0\5\xff\xff\xff\xff\xff"),
        call(b"\0\0\0\0\xff\x0a\x03"),
        call(b"\1\x7f\xff\xff\xff"),
        b'{"op":"offered"}\n',
        b'{"op":' * 2000 + b"\n",
        b"[" * 100_000 + b"\n",
        b'{"op":"attach","address":"' + b"A" * 200_000 + b'"}\n',
    ]


def garbage(*places):
    """Says what means nothing, all at the same time; won where the other end then neither answers nor hangs up."""
    until, begun = time.monotonic() + 20, []
    for place in places:
        for opening in openings():
            if place.startswith("/"):
                peer = unix(place)
            else:
                host, port = place.rsplit(":", 1)
                peer = socket.create_connection((host, int(port)), 10)
            try:
                peer.sendall(opening)
                peer.shutdown(socket.SHUT_WR)
            except (ConnectionError, OSError):
                pass
            begun.append((peer, f"{place} holds on after {opening[:20]!r}"))
    for peer, what in begun:
        try:
            while True:
                peer.settimeout(max(0.1, until - time.monotonic()))
                if not peer.recv(65536):
                    break
        except TimeoutError:
            won(what)
        except OSError:
            pass
        peer.close()
    lost(f"{len(begun)} endings")


def listener(place, behaviour):
    """The other end for a control: takes all connections, and what `behaviour` says."""
    if place.startswith("/"):
        peer = socket.socket(socket.AF_UNIX)
        peer.bind(place)
        os.chmod(place, 0o666)
    else:
        peer = socket.create_server(("", int(place)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    peer.listen(1024)
    peer.setblocking(False)
    context = None
    if behaviour.startswith("tls:"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = behaviour[4:]
        context.load_cert_chain(f"{folder}/host.pem", f"{folder}/host.key")
        context.set_alpn_protocols(["h2"])
        peer.setblocking(True)
    print("all", flush=True)
    kept = []
    while not select.select([sys.stdin], [], [], 0 if context is None else 0)[0]:
        if not select.select([peer, sys.stdin], [], [], 1)[0]:
            continue
        if select.select([sys.stdin], [], [], 0)[0]:
            return
        try:
            one, _ = peer.accept()
        except BlockingIOError:
            continue
        if context is not None:
            try:
                one = context.wrap_socket(one, server_side=True)
                one.sendall(SETTINGS)
            except (ssl.SSLError, OSError):
                continue
        elif behaviour == "http2":
            one.sendall(SETTINGS)
        kept.append(one)


def full(path):
    """Puts a socket in the place of one's own, whose queue is full for ever."""
    os.unlink(path)
    peer = socket.socket(socket.AF_UNIX)
    peer.bind(path)
    peer.listen(1)
    kept = []
    while True:
        one = socket.socket(socket.AF_UNIX)
        one.setblocking(False)
        try:
            one.connect(path)
        except BlockingIOError:
            break
        kept.append(one)
    print("all", flush=True)
    sys.stdin.read()


def names(first, last):
    """Takes the abstract names of displays and stays; says which it has."""
    kept, numbers = [], []
    for number in range(int(first), int(last) + 1):
        peer = socket.socket(socket.AF_UNIX)
        try:
            peer.bind(f"\0/tmp/.X11-unix/X{number}")
        except OSError:
            continue
        peer.listen(8)
        kept.append(peer)
        numbers.append(str(number))
    print("all", " ".join(numbers), flush=True)
    sys.stdin.read()


VERBS = {
    "read": read, "list": listing, "write": write, "create": create, "remove": remove, "cgroup": cgroup,
    "connect": connect, "say": say, "tcp": tcp, "scan": scan, "bind": bind, "signal": signal, "trace": trace,
    "memory": memory, "display": display, "run": run, "finds": finds, "service": service, "tls": tls,
    "plain": plain, "flood": flood, "garbage": garbage, "listener": listener, "full": full, "names": names,
}

# What stands before this, if anything, brings more of them.
VERBS.update(globals().get("CALLS", {}))
VERBS[sys.argv[1]](*sys.argv[2:])
