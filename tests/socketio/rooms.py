"""python-socketio against examples/chat: python rooms.py URL TRANSPORT. Two clients in one room, one in another."""

import sys
import threading
import time

import socketio

URL, TRANSPORT = sys.argv[1:]
PATIENCE = 20


class Client:
    """A client that keeps what it hears."""

    def __init__(self, room):
        self.heard = []
        self.connected = threading.Event()
        self.socket = socketio.Client(reconnection_delay=0.05, reconnection_delay_max=0.1)
        self.socket.on("my response", self.heard.append)
        self.socket.on("connect", self.connected.set)
        self.socket.connect(URL, transports=[TRANSPORT], wait_timeout=PATIENCE)
        self.join(room)

    def join(self, room):
        answer = self.socket.call("join", room, timeout=PATIENCE)
        assert answer["cursor"], answer

    def say(self, room, text):
        answer = self.socket.call("my event", {"room": room, "text": text}, timeout=PATIENCE)
        assert len(answer["id"]) == 36, answer

    def texts(self, count):
        until = time.monotonic() + PATIENCE
        while len(self.heard) < count and time.monotonic() < until:
            time.sleep(0.01)
        return [response["text"] for response in self.heard]


def main():
    ada, bob, eve = Client("tea"), Client("tea"), Client("coffee")
    texts = [f"text {i} ☕" for i in range(20)]
    for text in texts:
        ada.say("tea", text)
    for client in (ada, bob):
        assert client.texts(len(texts)) == texts, client.heard
    assert eve.heard == [], eve.heard

    # A WebSocket is lost: the client comes back by itself. With polling there is nothing to lose; it leaves and comes.
    bob.connected.clear()
    if TRANSPORT == "websocket":
        bob.socket.eio.ws.close()
    else:
        bob.socket.disconnect()
        bob.socket.connect(URL, transports=[TRANSPORT], wait_timeout=PATIENCE)
    assert bob.connected.wait(PATIENCE), "it comes back"
    bob.join("tea")
    bob.heard.clear()
    ada.say("tea", "again")
    assert bob.texts(1) == ["again"], bob.heard

    # A marker in the other room: had anything else been for it, it would have come before.
    eve.say("coffee", "marker")
    assert eve.texts(1) == ["marker"], eve.heard
    for client in (ada, bob, eve):
        client.socket.disconnect()
    print("ok")


main()
