"""`demo`: sample LLM applications, MLflow and the exporter, as real processes on this machine.

chatbot.py and search.py are the applications, providers.py has their models, llm.py is a mock of the providers, and
load.py simulates the users. processes.py starts and stops all processes. monitoring.py adds Prometheus and
Alertmanager, and pager.py receives their notifications. table.py turns /metrics into rows, and screen.py shows them in
the terminal. applications.py says how the applications are started, and command.py puts everything together.
"""
