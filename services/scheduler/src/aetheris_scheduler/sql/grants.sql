-- What the scheduler's own role may do. Jobs are never removed.
GRANT USAGE ON SCHEMA scheduler TO {role};
GRANT SELECT, INSERT, UPDATE ON scheduler.jobs TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON scheduler.runners TO {role};
GRANT SELECT, INSERT ON scheduler.child_ends TO {role};
GRANT SELECT ON scheduler.heads TO {role};
