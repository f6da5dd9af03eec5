"""What agent code may not do between its steps: the rules, and the names that break them.

One table for both: the guard refuses these names at run time, the linter finds them in the source.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    id: str
    title: str
    why: str
    remedy: str


_STEP = "do it in a @step, or in a @tool where it changes anything"

CLOCK = Rule(
    "AE101",
    "reads the clock",
    "a resumed run would read another time",
    "use await now(), which is recorded, or measure inside a @step",
)
RANDOM = Rule(
    "AE102",
    "asks for randomness",
    "a resumed run would get another number",
    "use await random(), which is recorded, or draw inside a @step",
)
UUID = Rule(
    "AE103",
    "makes a random id",
    "a resumed run would make another",
    "use await uuid(), which is recorded",
)
NETWORK = Rule("AE104", "uses the network", "a resumed run would do it again and be answered otherwise", _STEP)
FILES = Rule("AE105", "touches files", "a resumed run may be on another machine, with other files", _STEP)
PROCESS = Rule("AE106", "starts or signals a process", "a resumed run would do it again", _STEP)
THREAD = Rule(
    "AE107",
    "starts a thread",
    "its order differs from run to run",
    "a @step that is a plain def runs in a thread; use gather() for several at once",
)
CONCURRENCY = Rule(
    "AE108",
    "runs tasks of its own",
    "their order differs from run to run",
    "use gather() of aetheris, whose branches have fixed places in the record",
)
PAUSE = Rule(
    "AE109",
    "waits by the process's clock",
    "it is lost with the process and holds a worker",
    "use await sleep(…), which is durable, or the timeout= of what is waited for",
)
TERMINAL = Rule(
    "AE110",
    "reads the terminal",
    "a resumed run has no one at its terminal",
    "wait for a person with await signal(…) or await approval(…)",
)
SET_ORDER = Rule(
    "AE201",
    "iterates over a set",
    "the order of a set of strings differs from process to process",
    "iterate over sorted(…)",
)
IDENTITY = Rule(
    "AE202",
    "uses id() or hash()",
    "they differ from process to process",
    "compare the values themselves, or use hashlib",
)
SHARED_STATE = Rule(
    "AE203",
    "changes state outside itself",
    "other jobs of the process share it, and a resumed run finds another",
    "keep it in local variables, or return it from a @step",
)
HIDDEN_TOOL = Rule(
    "AE204",
    "calls a tool inside a step",
    "the step may run again after a crash, and the tool with it",
    "call the tool from the agent",
)
SWALLOWS_STOP = Rule(
    "AE205",
    "catches what stops a job",
    "cancelling, pausing and handing the job over end its tasks by CancelledError",
    "catch Exception, or raise again",
)
SWALLOWS_ERROR = Rule(
    "AE206",
    "catches every error and says nothing",
    "a ContractViolation would pass unseen",
    "catch the error that is meant",
)
NOT_AWAITED = Rule(
    "AE207",
    "gives a command without awaiting it",
    "it never runs",
    "put await in front of it",
)

RULES = {
    rule.id: rule
    for rule in (
        CLOCK, RANDOM, UUID, NETWORK, FILES, PROCESS, THREAD, CONCURRENCY, PAUSE, TERMINAL,
        SET_ORDER, IDENTITY, SHARED_STATE, HIDDEN_TOOL, SWALLOWS_STOP, SWALLOWS_ERROR, NOT_AWAITED,
    )
}  # fmt: skip


def _named(rule: Rule, prefix: str, names: str) -> dict[str, Rule]:
    return {f"{prefix}.{name}": rule for name in names.split()}


# Functions of modules, by full name.
FUNCTIONS: dict[str, Rule] = {
    **_named(
        CLOCK,
        "time",
        "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns "
        "thread_time thread_time_ns clock_gettime clock_gettime_ns localtime gmtime ctime strftime",
    ),
    **_named(PAUSE, "time", "sleep"),
    **_named(
        RANDOM,
        "random",
        "random uniform triangular randint choice randrange sample shuffle choices normalvariate lognormvariate "
        "expovariate vonmisesvariate gammavariate gauss betavariate paretovariate weibullvariate getrandbits "
        "randbytes seed",
    ),
    **_named(RANDOM, "secrets", "token_bytes token_hex token_urlsafe randbelow randbits choice"),
    **_named(RANDOM, "os", "urandom getrandom"),
    **_named(UUID, "uuid", "uuid1 uuid4 uuid6 uuid7 uuid8"),
    **_named(PAUSE, "asyncio", "sleep wait_for timeout timeout_at"),
    **_named(
        CONCURRENCY,
        "asyncio",
        "create_task ensure_future gather wait as_completed shield run run_coroutine_threadsafe",
    ),
    **_named(THREAD, "asyncio", "to_thread"),
}

# Methods of classes, by full name.
METHODS: dict[str, Rule] = {
    "datetime.datetime.now": CLOCK,
    "datetime.datetime.utcnow": CLOCK,
    "datetime.date.today": CLOCK,
    "random.Random.seed": RANDOM,
    "random.SystemRandom.random": RANDOM,
    "random.SystemRandom.getrandbits": RANDOM,
    "random.SystemRandom.randbytes": RANDOM,
    "threading.Thread.start": THREAD,
    "asyncio.TaskGroup.create_task": CONCURRENCY,
}

# Methods of event loops. A loop in C opens sockets without an audit event.
LOOP_METHODS: dict[str, Rule] = {
    "create_connection": NETWORK,
    "create_datagram_endpoint": NETWORK,
    "create_server": NETWORK,
    "create_unix_connection": NETWORK,
    "create_unix_server": NETWORK,
    "getaddrinfo": NETWORK,
    "sock_connect": NETWORK,
    "subprocess_exec": PROCESS,
    "subprocess_shell": PROCESS,
    "run_in_executor": THREAD,
}

# These read the clock only if they are not given a time: a call with this many arguments or more is harmless.
HARMLESS_WITH = {"time.localtime": 1, "time.gmtime": 1, "time.ctime": 1, "time.strftime": 2, "random.Random.seed": 1}

# The interpreter's audit events (see `sys.addaudithook`) that break a rule.
EVENTS: dict[str, Rule] = {
    "open": FILES,
    **_named(
        FILES,
        "os",
        "listdir scandir mkdir rmdir remove rename link symlink truncate chmod chown chflags utime walk fwalk "
        "setxattr removexattr getxattr listxattr chdir fchdir lockf",
    ),
    **_named(FILES, "shutil", "copyfile copymode copystat copytree make_archive move rmtree unpack_archive chown"),
    **_named(FILES, "tempfile", "mkstemp mkdtemp"),
    **_named(FILES, "pathlib.Path", "glob rglob"),
    **_named(FILES, "glob", "glob"),
    "sqlite3.connect": FILES,
    "dbm.open": FILES,
    **_named(
        NETWORK,
        "socket",
        "connect bind sendto sendmsg getaddrinfo gethostbyname gethostbyaddr getnameinfo getservbyname",
    ),
    "urllib.Request": NETWORK,
    "http.client.connect": NETWORK,
    **_named(PROCESS, "os", "system exec fork forkpty posix_spawn spawn startfile kill killpg putenv unsetenv"),
    "subprocess.Popen": PROCESS,
    "pty.spawn": PROCESS,
    "webbrowser.open": PROCESS,
    "_thread.start_new_thread": THREAD,
    "builtins.input": TERMINAL,
}
