"""Stands for a web site in tests of the laboratory: a login of three forms, and a page with a picture that keys change."""
import http.server, ssl

FORM = '<!doctype html><title>{0}</title><form method=post><label>{0}<input name=answer></label><button>Next</button></form>'
PAGE = '''<!doctype html><title>in</title><canvas width=200 height=100 tabindex=0></canvas><script>
const canvas = document.querySelector('canvas'), pen = canvas.getContext('2d');
const paint = (colour) => { pen.fillStyle = colour; pen.fillRect(0, 0, 200, 100); };
paint('#3050a0');
window.typed = '';
canvas.addEventListener('keydown', (event) => { typed += event.key; if (typed === 'abEnter') paint('#a05030'); });
canvas.addEventListener('click', (event) => { window.clicked = [event.offsetX, event.offsetY]; canvas.focus(); });
</script>'''
STEPS = ['User', 'Password: ', 'Verification code: ']


class Handler(http.server.BaseHTTPRequestHandler):
    answers = []

    def page(self):
        given = len(self.answers)
        body = PAGE if given == len(STEPS) else FORM.format(STEPS[given])
        self.send_response(200)
        self.send_header('Content-Type', 'text/html; charset=utf-8')
        if given == len(STEPS):
            self.send_header('Set-Cookie', '__Host-lab=yes; Path=/; Secure; HttpOnly; SameSite=Strict')
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self):
        self.page()

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length'])).decode()
        self.answers.append(body.removeprefix('answer='))
        # So that the page can be loaded again.
        self.send_response(303)
        self.send_header('Location', '/')
        self.end_headers()


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('/etc/vsm/pki/host.pem', '/etc/vsm/pki/host.key')
server = http.server.ThreadingHTTPServer(('', 443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
