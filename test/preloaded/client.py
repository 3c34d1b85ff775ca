"""`client.py SOCKET MODULE ARGUMENTS`: `python -m MODULE ARGUMENTS`, forked (see preloaded.py)."""

import _socket
import marshal
import os
import sys


def main() -> int:
    server, module, *arguments = sys.argv[1:]
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(server)
    except OSError:  # nobody is there
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
    content = marshal.dumps((module, arguments, os.getcwd(), dict(os.environ)))
    streams = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
    connection.sendmsg([len(content).to_bytes(8, "little")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
    connection.sendall(content)
    reply = connection.recv(16)
    if not reply:
        print(f"{server}: the process that runs '{module}' has gone", file=sys.stderr)
        return 1
    code = int(reply)
    if code < 0:
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
