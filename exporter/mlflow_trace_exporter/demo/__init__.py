"""`demo`: a sample LLM application, MLflow and the exporter, as real processes on this machine.

chatbot.py is the application, llm.py its mock LLM, and load.py simulates its users. processes.py starts and stops all
processes. monitoring.py adds Prometheus and Alertmanager, and pager.py receives their notifications. table.py turns
/metrics into rows, and screen.py shows them in the terminal. applications.py says how the application is started, and
command.py puts everything together.
"""
