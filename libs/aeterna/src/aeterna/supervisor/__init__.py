"""PID 1: sockets, processes, clocks. It asks `aeterna.table` what to do and does it.

One thread and one epoll: a process with threads must not fork, and forking is what it does all day. Nothing
here blocks. What must block (a health check, a hook) is a child process of its own, killed at its deadline.
"""
