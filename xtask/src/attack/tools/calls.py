# What somebody says to vsmagent who has the account of vsm-agent-net, by hand. It goes before tool.py.

import json, random, threading

AGENT = "/run/vsm/agent/vsmagent.sock"
TABLE = "01890a5d-ac96-774b-bcce-0000000000ff"


def heard(peer):
    """What is answered: a line, or what comes before the other end hangs up."""
    answer = b""
    try:
        while not answer.endswith(b"\n"):
            part = peer.recv(65536)
            if not part:
                break
            answer += part
    except ConnectionError:
        pass
    return answer


def asked(line, more=b""):
    """What is answered to a line, and to what follows once it is asked for."""
    peer = denied(lambda: unix(AGENT), [errno.ECONNREFUSED])
    peer.settimeout(30)
    try:
        peer.sendall(line)
        answer = heard(peer)
        if more and b'"go"' in answer:
            peer.sendall(more)
            answer = heard(peer)
    except ConnectionError as error:
        return str(error)
    finally:
        peer.close()
    return answer.decode(errors="replace").strip()


def line_of(text):
    return b'{"version":1,"call":' + text.encode() + b"}\n"


def host():
    """What root says of its host, in the first line of many."""
    return json.loads(asked(line_of('"report"')).splitlines()[0])["host"]


def right(kind, told=None):
    """By what right something is asked: as it is now, or one that is over, beyond reason, another node's, another table's."""
    told = told or host()
    if told["promised"] is None:
        raise SystemExit("nothing was ever promised here")
    epoch, lineage = dict(told["promised"]), told["lineage"]
    if kind == "OLD":
        epoch["counter"] -= 1
    elif kind == "FAR":
        epoch["counter"] += 5_000_000
    elif kind == "LOWER":
        epoch["node"] = "a"
    elif kind == "TABLE":
        epoch["counter"], lineage = 1, TABLE
    return {"epoch": epoch, "incarnation": 1, "lineage": lineage}


def a_session():
    return "01890a5d-ac96-774b-bcce-" + "%012x" % random.getrandbits(48)


def filled(text):
    kinds = ["NOW", "OLD", "FAR", "LOWER", "TABLE"]
    told = host() if any(f"<{kind}>" in text for kind in kinds) else None
    for kind in kinds:
        if f"<{kind}>" in text:
            text = text.replace(f"<{kind}>", json.dumps(right(kind, told)))
    return text.replace("<ID>", a_session())


def judge(answer, wins, loses):
    if re.search(loses, answer):
        lost(answer)
    if re.search(wins, answer):
        won(answer)
    raise SystemExit(f"neither {wins!r} nor {loses!r}: {answer[:300]!r}")


def call(text, wins, loses):
    judge(asked(line_of(filled(text))), wins, loses)


def install(chain, key, authorities, better):
    """Brings a certificate."""
    what = {"install": {"chain": chain, "key": key, "authorities": authorities, "better": better}}
    answer = asked(line_of(json.dumps(what)))
    judge(answer, '"done"', "no certificate of this host|stands behind|ends no later|is older")


def varint(number):
    out = b""
    while number >= 0x80:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def message(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def epoch_message(epoch):
    head = b"\x08" + varint(epoch["counter"]) + message(2, epoch["node"].encode())
    return head + b"\x1d" + struct.pack("<I", epoch["nonce"])


def said_to_the_witness(lineage, epoch, kind):
    body = message(1, lineage.encode()) + message(2, epoch_message(epoch)) + kind
    return asked(line_of('{"witness":{"bytes":%d}}' % len(body)), body)


def start(user, by):
    session = a_session()
    what = {"id": session, "user": user, "agent": "agent1", "state": "starting", "request": session}
    what.update(params={"geometry": None}, created=1)
    begun = {"start": {"fence": by, "session": what, "limits": {}, "resources": {}}}
    return asked(line_of(json.dumps(begun)))


ACTS, ACTS_NOT = "unknown-user", '"fenced"|was damaged|lineage|beyond all reason|more than'


def forget(how):
    """Has root forget what it has promised, and acts by what is over."""
    told = host()
    old = right("OLD", told)
    if how == "set-aside":
        what = {"fence": right("NOW", told), "lineage": told["lineage"], "journal_id": told["journal_id"]}
        answer = asked(line_of(json.dumps({"quarantine": {**what, "journal": told["journal"] + 1000}})))
        if '"was":true' not in answer:
            raise SystemExit(answer)
        # The number of the loss is that of its journal. What is said next only the active node says, when all is well.
        loss = struct.pack("<Q", host()["journal_id"])
        at = message(1, epoch_message(old["epoch"])) + b"\x10\x01"
        clear = message(5, message(1, at) + b"\x11" + loss)
        said_to_the_witness(told["lineage"], old["epoch"], clear)
    elif how == "another-table":
        said = start("nobody-here", right("TABLE", told))
        if ACTS not in said:
            raise SystemExit(said)
    judge(start("nobody-here", old), ACTS, ACTS_NOT)


STRANGE = [
    b"", b"\n", b"\0\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b'{"version":' * 5000 + b"\n",
    b'{"version":1}\n', b'{"call":"report"}\n', b'{"version":1,"version":1,"call":"report"}\n',
    b'{"version":1,"call":"report","call":"report"}\n', b'{"version":1,"call":"report","uid":0}\n',
    b'{"version":-1,"call":"report"}\n', b'{"version":1e400,"call":"report"}\n', b'{"version":"1","call":"report"}\n',
    b'{"version":4294967297,"call":"report"}\n', b'{"version":1,"call":"rep\xc3ort"}\n',
    b'{"version":1,"call":"report\\u0000"}\n', b'{"version":1,"call":{"report":null,"follow":null}}\n',
    b'{"version":1,"call":{"run":{"program":"/bin/sh"}}}\n', b'{"version":1,"call":{"witness":{"bytes":-1}}}\n',
    b'{"version":1,"call":{"witness":{"bytes":18446744073709551616}}}\n',
    b'{"version":1,"call":{"witness":{"bytes":1e9}}}\n', b'{"version":1,"call":{"witness":{"bytes":67108865}}}\n',
    b'{"version":1,"call":{"verify":{"id":"../../x","client":null,"standing":false,"fence":null}}}\n',
    b'{"version":1,"call":{"verify":{"id":"\\u0000","client":null,"standing":false,"fence":null}}}\n',
    b'{"version":1,"call":{"forget":"' + b"A" * 70_000 + b'"}}\n',
    b'{"version":1,"call":{"install":{"chain":"x","key":"' + b"A" * 70_000 + b'","authorities":"","better":"newer"}}}\n',
    b'{"version":1,"call":{"install":{"chain":"x","key":"y","authorities":"","better":"any"}}}\n',
    b'{"version":1,"call":"' + b"A" * 300_000 + b'"}\n', b'{"version":1,"call":"report"' + b" " * 300_000 + b"}\n",
]
# The same with a right, without which they would be refused for that alone.
STRANGE_BY_RIGHT = [
    '{"notify":{"fence":<NOW>,"ids":[],"text":""}}', '{"notify":{"fence":<NOW>,"ids":[],"text":"a\\u0000b"}}',
    '{"notify":{"fence":<NOW>,"ids":[],"text":"' + "A" * 3000 + '"}}',
    '{"notify":{"fence":<NOW>,"ids":[' + ",".join(['"<ID>"'] * 257) + '],"text":"x"}}',
    '{"log":{"fence":<NOW>,"id":"<ID>","bytes":-1}}', '{"log":{"fence":<NOW>,"id":"<ID>","bytes":1.5}}',
    '{"log":{"fence":<NOW>,"id":"<ID>","bytes":1,"path":"/etc/shadow"}}',
    '{"revoke":{"fence":<NOW>,"identities":[["root/x",1]]}}', '{"revoke":{"fence":<NOW>,"identities":[["agent/../x",1]]}}',
    '{"revoke":{"fence":<NOW>,"identities":[' + ",".join(['["agent/x",1]'] * 257) + "]}}",
    '{"accept_key":{"fence":<NOW>,"announced":{"session":"<ID>","user":"bob","key":"ssh-ed25519 x\\ncommand=y","valid":1}}}',
    '{"accept_key":{"fence":<NOW>,"announced":{"session":"<ID>","user":"bob","key":"KEY","valid":0}}}',
    '{"accept_key":{"fence":<NOW>,"announced":{"session":"<ID>","user":"bob","key":"KEY","valid":4294967295}}}',
    '{"set_limits":{"fence":<NOW>,"sessions":[["<ID>",{"extensions":-1}]]}}',
    '{"terminate":{"fence":<NOW>,"id":["<ID>"],"broker":"x"}}', '{"cancel":{"fence":[<NOW>],"id":"<ID>"}}',
]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


def strange(*more):
    """Says what is no call in all ways; won where one of them is taken for one, or nobody answers."""
    by_right = [line_of(filled(text).replace("KEY", KEY)) for text in STRANGE_BY_RIGHT]
    lines = STRANGE + by_right + [line_of(filled(text)) for text in more]
    for line in lines:
        try:
            peer = unix(AGENT)
            peer.settimeout(20)
            try:
                peer.sendall(line)
                peer.shutdown(socket.SHUT_WR)
            except ConnectionError:
                pass
            answer = heard(peer).decode(errors="replace")
        except TimeoutError:
            won(f"no answer to {line[:80]!r}")
        if answer and '"invalid"' not in answer:
            won(f"{line[:80]!r}: {answer}")
    lost(f"{len(lines)} of them")


def stay(doing):
    """Goes on with something until the input ends."""
    over = threading.Event()

    def again():
        while not over.is_set():
            try:
                doing()
            except OSError:
                time.sleep(0.05)

    threads = [threading.Thread(target=again, daemon=True) for _ in range(48)]
    for one in threads:
        one.start()
    time.sleep(2)
    print("all", flush=True)
    sys.stdin.read()
    over.set()


def busy(session):
    """Calls without end, good ones and bad ones."""
    fence = json.dumps(right("NOW"))
    good = '{"log":{"fence":%s,"id":"%s","bytes":1048576}}' % (fence, session)
    look = '{"verify":{"id":"%s","client":null,"standing":true,"fence":null}}' % session
    text = '{"disconnect":{"fence":%s,"id":"%s","reason":"x"}}' % (fence, a_session())
    lines = [line_of(one) for one in (good, look, text)] + [b"x" * 200_000 + b"\n"]

    def doing():
        peer = unix(AGENT)
        peer.sendall(random.choice(lines))
        peer.recv(4096)
        peer.close()

    stay(doing)


def hold(count):
    """Holds connections, each with a call that is never finished, and takes those again that are closed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    each = max(1, int(count) // 48)

    def doing():
        kept = []
        for _ in range(each):
            peer = unix(AGENT)
            peer.sendall(b"x" * 250_000)
            kept.append(peer)
        time.sleep(3)

    stay(doing)


def bad_calls(count):
    """Many of them, each as long as it may be."""
    line = b'{"version":1,"call":{"' + b"A" * 200_000 + b'":1}}\n'
    for _ in range(int(count)):
        try:
            asked(line)
        except OSError:
            pass
    won()


def rows(count):
    """A message to the witness that is small on its way and large once it is read."""
    told = host()
    by = right("NOW", told)
    window = message(2, b"\x1a\x00" * int(count))
    won(said_to_the_witness(told["lineage"], by["epoch"], message(4, window)))


def descriptors(path, count):
    """Passes descriptors along with what it says, and stays."""
    peer = unix(path)
    given = [os.open("/dev/null", os.O_RDONLY) for _ in range(int(count))]
    for first in range(0, len(given), 100):
        socket.send_fds(peer, [b'{"version":1,'], given[first : first + 100])
    time.sleep(1)
    print("all", flush=True)
    sys.stdin.read()


def taker(path):
    """Takes all descriptors that are passed to it, and says who it is."""
    own = socket.socket(socket.AF_UNIX)
    own.bind(path)
    own.listen(8)
    print("all", os.getpid(), flush=True)
    own.settimeout(60)
    peer, _ = own.accept()
    kept = []
    while not select.select([sys.stdin], [], [], 0)[0]:
        if select.select([peer], [], [], 0.2)[0]:
            data, given, _, _ = socket.recv_fds(peer, 4096, 200)
            if not data:
                break
            kept.append(given)
    sys.stdin.read()


def place(path):
    """Listens in the place of whoever did before."""
    denied(lambda: os.unlink(path))
    peer = socket.socket(socket.AF_UNIX)
    denied(lambda: peer.bind(path))
    os.unlink(path)
    won()


CALLS = {
    "call": call, "install": install, "forget": forget, "strange": strange, "busy": busy, "hold": hold,
    "bad-calls": bad_calls, "rows": rows, "descriptors": descriptors, "taker": taker, "place": place,
}
