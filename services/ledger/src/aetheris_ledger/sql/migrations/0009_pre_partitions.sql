-- Commits are partitioned by the ids of jobs. Ids begin with the moment at which the job was made, so a partition is a
-- range of time, and a month's jobs can be removed by dropping one table. What was the table is the first partition.
-- Attaching it reads nothing: its bound is a validated constraint.

ALTER TABLE ledger.commits RENAME TO commits_first;
ALTER TABLE ledger.commits_first RENAME CONSTRAINT commits_pkey TO commits_first_pkey;
ALTER INDEX ledger.commits_checkpoints RENAME TO commits_first_job_id_seq_idx;
ALTER INDEX ledger.commits_job_keys RENAME TO commits_first_job_id_idx;

CREATE TABLE ledger.commits (
    LIKE ledger.commits_first INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING CONSTRAINTS
) PARTITION BY RANGE (job_id);
ALTER TABLE ledger.commits DROP CONSTRAINT commits_first_ids;
ALTER TABLE ledger.commits ADD CONSTRAINT commits_pkey PRIMARY KEY (job_id, seq);
CREATE INDEX commits_checkpoints ON ledger.commits (job_id, seq) WHERE checkpoint;
CREATE INDEX commits_job_keys ON ledger.commits (job_id) WHERE job_key IS NOT NULL;

DO $$
DECLARE
    bound text := (
        SELECT substring(pg_get_constraintdef(c.oid) FROM '''([0-9a-f-]{36})''')
        FROM pg_constraint c
        WHERE c.conname = 'commits_first_ids' AND c.conrelid = 'ledger.commits_first'::regclass
    );
BEGIN
    EXECUTE format(
        'ALTER TABLE ledger.commits ATTACH PARTITION ledger.commits_first FOR VALUES FROM (MINVALUE) TO (%L)', bound
    );
END
$$;
ALTER TABLE ledger.commits_first DROP CONSTRAINT commits_first_ids;

-- For ids beyond the last partition. Partitions are made ahead, so it stays empty unless ids come that no clock made.
CREATE TABLE ledger.commits_rest PARTITION OF ledger.commits DEFAULT;
ALTER TABLE ledger.commits_rest SET (autovacuum_analyze_threshold = 2000);

-- A trigger for statements works where the statement names the table, so each partition has its own.
CREATE TRIGGER commits_stay
    BEFORE UPDATE OF seq, lease, time_us, job_id, hash, body, checkpoint, terminal, tenant OR DELETE OR TRUNCATE
    ON ledger.commits
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER commits_stay
    BEFORE UPDATE OF seq, lease, time_us, job_id, hash, body, checkpoint, terminal, tenant OR DELETE OR TRUNCATE
    ON ledger.commits_rest
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- Adds a partition for each month from the end of the last one on, until one ends behind `until`. Returns how many it
-- added. The ledger calls it; it runs with the rights of its owner, because a service may not create tables. It waits a
-- second at most for the locks of others, because all statements on commits queue behind it meanwhile.
CREATE FUNCTION ledger.add_partitions(until timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '1s' AS $$
DECLARE
    lower uuid;
    upper uuid;
    began timestamptz;
    added integer := 0;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(7020381);
    LOOP
        SELECT max(substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([0-9a-f-]{36})''\)'))::uuid INTO lower
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'ledger.commits'::regclass;
        began := to_timestamp(('x' || lpad(left(replace(lower::text, '-', ''), 12), 16, '0'))::bit(64)::bigint / 1000.0);
        EXIT WHEN began > until;
        upper := (lpad(to_hex((extract(epoch FROM
            (date_trunc('month', began AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'
        ) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
        name := 'commits_' || to_char(began AT TIME ZONE 'UTC', 'YYYY_MM');
        EXECUTE format('CREATE TABLE ledger.%I (LIKE ledger.commits INCLUDING ALL)', name);
        EXECUTE format('ALTER TABLE ledger.%I SET (autovacuum_analyze_threshold = 2000)', name);
        EXECUTE format(
            'CREATE TRIGGER commits_stay BEFORE UPDATE OF seq, lease, time_us, job_id, hash, body, checkpoint, terminal, '
            'tenant OR DELETE OR TRUNCATE ON ledger.%I FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', name
        );
        EXECUTE format(
            'ALTER TABLE ledger.commits ATTACH PARTITION ledger.%I FOR VALUES FROM (%L) TO (%L)', name, lower, upper
        );
        added := added + 1;
    END LOOP;
    RETURN added;
END
$$;
