# What no browser does. Each line that it prints is what became of one attempt.
import json, resource, socket, ssl, sys, time

context = ssl.create_default_context(cafile=sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))

def dial():
    return socket.create_connection(('tlha', 443), timeout=60)

def secured():
    return context.wrap_socket(dial(), server_hostname='tlha')

def rest(stream):
    # What it says until it hangs up.
    said = b''
    try:
        while len(said) < 100000:
            part = stream.recv(65536)
            if not part:
                break
            said += part
    except (OSError, ssl.SSLError):
        pass
    return said

def told(what, **more):
    print(json.dumps({'what': what, **more}), flush=True)

# Not TLS at all.
plain = dial()
plain.sendall(b'GET / HTTP/1.1\r\nHost: tlha\r\n\r\n')
told('plain', said=len(rest(plain)) < 100)

# Within TLS, what is no HTTP.
for name, words in [('garbage', bytes(range(256)) * 64), ('http2', b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')]:
    stream = secured()
    try:
        stream.sendall(words)
    except OSError:
        pass
    said = rest(stream)
    told(name, refused=not said or b' 400 ' in said[:20] or b' 505 ' in said[:20])

# A byte of a header each second.
stream = secured()
began = time.monotonic()
try:
    stream.sendall(b'GET / HTTP/1.1\r\nHost: tlha\r\nX: ')
    for _ in range(60):
        stream.sendall(b'x')
        time.sleep(1)
except OSError:
    pass
told('slow headers', seconds=round(time.monotonic() - began))

# A form of a gigabyte, as it says and as it does not say.
for name, head in [('announced', b'Content-Length: 1073741824\r\n'), ('chunked', b'Transfer-Encoding: chunked\r\n')]:
    stream = secured()
    stream.sendall(b'POST /login HTTP/1.1\r\nHost: tlha\r\nOrigin: https://tlha\r\n' + head
                   + b'Content-Type: application/x-www-form-urlencoded\r\n\r\n')
    sent = 0
    part = b'user=' + b'a' * 65531
    try:
        for _ in range(2000):
            stream.sendall(part if name == 'announced' else b'%x\r\n' % len(part) + part + b'\r\n')
            sent += len(part)
    except OSError:
        pass
    told(name, mib=sent >> 20)

# Ten thousand connections that finish TLS or say nothing.
held = []
for number in range(10000):
    try:
        held.append(dial())
    except OSError:
        break
told('sockets', opened=len(held))
sys.stdin.read()
