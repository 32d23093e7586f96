"""`demo`: a small LLM application, MLflow and the exporter, as real processes on this machine.

chatbot.py is the application and llm.py the stand-in for its LLM; traffic.py plays its users. processes.py starts and
stops them, table.py turns /metrics into rows, and command.py is what the terminal shows.
"""
