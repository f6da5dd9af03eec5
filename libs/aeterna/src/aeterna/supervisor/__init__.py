"""PID 1: processes, sockets, probes, control and upgrades. `aeterna.table` decides; this package carries it out.

One thread and one epoll: a process with threads cannot fork safely, and the supervisor forks all the time. No code here
blocks. Work that must block (a health check, a hook) runs in a child process that is killed at its deadline.
"""
