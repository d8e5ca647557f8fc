import socket
from contextlib import ExitStack, closing

from service.http.listening import SharedListener, listen


def test_a_process_that_takes_one_connection_at_a_time_lets_many_wait():
    with closing(listen("127.0.0.1", 0)) as listener, ExitStack() as opened:
        address = listener.getsockname()
        shared = opened.enter_context(
            SharedListener(listener.family, listener.type, listener.proto, fileno=listener.detach())
        )
        shared.listen(SharedListener.at_once)  # as asyncio does
        for _ in range(50):  # a queue of one would keep them waiting
            opened.enter_context(socket.create_connection(address, timeout=60))
        shared.settimeout(60)
        for _ in range(50):
            opened.enter_context(shared.accept()[0])
