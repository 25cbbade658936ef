"""Prints what comes into the queue `replies`, as in RabbitMQ's first tutorial. Nothing in it knows of busway."""

import os

import pika


def callback(channel, method, properties, body):
    print(f" [x] Received {body.decode()}", flush=True)


url = os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/%2f")
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.queue_declare(queue="replies")
channel.basic_consume(queue="replies", on_message_callback=callback, auto_ack=True)
print("waits for messages; Ctrl-C ends it", flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
