"""A small order system of several processes, held together by a coordinator.

- ``web``: two FastAPI instances of the service ``orders``. They register, tell their health,
  take orders over HTTP and publish them to the topic ``orders.created``. On SIGTERM they
  drain before they go.
- ``worker``: a pool of three processes. On every round one at a time holds the lock
  ``settlement`` and settles the next orders; every write carries the lock's fencing token.
- ``scheduler``: two processes of which the elected one begins a round every second.
- ``customer``: finds the instances and orders from them.
- ``viewer``: prints what happens, live.

``python -m examples.order_system`` starts them all against a running coordinator.
"""
