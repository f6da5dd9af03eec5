-- The sum of the migrations, for people; a test holds the two equal.

-- What happened, once: every job's chain of commits, and one row for each side effect.

CREATE SCHEMA ledger;

-- One row per commit, insert only. The primary key is the fence: of all appends that claim a place one is
-- stored. The parent is not stored, it is the hash of the row before. Columns stand widest first, because
-- padding between them would cost eight bytes a row. Ids of jobs begin with the moment at which the job was made, so a
-- partition is a range of time.
CREATE TABLE ledger.commits (
    seq     bigint NOT NULL,
    lease   bigint NOT NULL,
    time_us bigint NOT NULL,
    job_id  uuid   NOT NULL,
    hash    bytea  NOT NULL,
    body    bytea  NOT NULL,
    -- A hint for readers; what counts is in the body.
    checkpoint boolean NOT NULL DEFAULT false,
    -- It ends the job: no commit is accepted behind it.
    terminal boolean NOT NULL DEFAULT false,
    -- Whose it is. NULL in commits of earlier versions, whose tenant stands in the first event of their chain.
    tenant text COLLATE "C",
    -- In the first commit of format 2: the job's key, from which the salts of its payloads follow.
    job_key bytea,
    CONSTRAINT commits_pkey PRIMARY KEY (job_id, seq),
    CONSTRAINT commits_seq_check CHECK (seq >= 1),
    CONSTRAINT commits_lease_check CHECK (lease >= 1),
    CONSTRAINT commits_hash_check CHECK (octet_length(hash) = 32),
    -- The limits of sizes are in aetheris_journal.limits; this one is the largest of them.
    CONSTRAINT commits_body_bytes_check CHECK (octet_length(body) BETWEEN 1 AND 2097152),
    CONSTRAINT commits_job_key_check CHECK (octet_length(job_key) = 16)
) PARTITION BY RANGE (job_id);

CREATE INDEX commits_checkpoints ON ledger.commits (job_id, seq) WHERE checkpoint;
CREATE INDEX commits_job_keys ON ledger.commits (job_id) WHERE job_key IS NOT NULL;

-- A hash does not compress, so it is never tried.
ALTER TABLE ledger.commits ALTER COLUMN hash SET STORAGE EXTERNAL;

-- Bodies beyond two kilobytes are compressed. lz4 takes a fifth of the time; not every server has it.
DO $$
BEGIN
    ALTER TABLE ledger.commits ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;

-- Jobs that were made before February 2027, in a database that is new by then. `add_partitions` adds the later months.
CREATE TABLE ledger.commits_first PARTITION OF ledger.commits
    FOR VALUES FROM (MINVALUE) TO ('01a36e30-f800-0000-0000-000000000000');
-- For ids beyond the last partition. Partitions are made ahead, so it stays empty unless ids come that no clock made.
CREATE TABLE ledger.commits_rest PARTITION OF ledger.commits DEFAULT;

-- One row per side effect. All but the note follows from the chain of the job that owns it, and Verify
-- holds the two against each other.
CREATE TABLE ledger.effects (
    seq              bigint   NOT NULL,
    lease            bigint   NOT NULL,
    outcome_seq      bigint   NOT NULL,
    updated_us       bigint   NOT NULL,
    note_us          bigint,
    job_id           uuid     NOT NULL,
    state            smallint NOT NULL,
    note_verdict     smallint,
    note_source      smallint,
    tenant           text     COLLATE "C" NOT NULL,
    key              text     COLLATE "C" NOT NULL,
    tool             text     COLLATE "C" NOT NULL,
    arguments_digest bytea    NOT NULL,
    result_digest    bytea,
    note_result      bytea,
    note_actor       text,
    note_text        text,
    CONSTRAINT effects_pkey PRIMARY KEY (tenant, key),
    CONSTRAINT effects_state_check CHECK (state BETWEEN 1 AND 7),
    CONSTRAINT effects_outcome_check CHECK ((state = 1) = (outcome_seq = 0)),
    CONSTRAINT effects_note_check CHECK ((note_verdict IS NULL) = (note_us IS NULL))
);

-- Lists, newest change first, of one state or, merged, of several. The state stands first: were it the
-- tenant, a planner that knows nothing yet would take this index for the primary key's work.
CREATE INDEX effects_by_state ON ledger.effects (state, tenant, updated_us);

-- The effects of one job, in the order of its chain.
CREATE INDEX effects_by_job ON ledger.effects (job_id, seq);

-- A plan is kept for as long as the statistics it was made for. A table that was vacuumed or analyzed while
-- it had a handful of pages gets plans that read all of it, and those are kept through the first minute of
-- real load. A table that never was is taken for ten pages, which is enough for the index.
ALTER TABLE ledger.commits_first SET (autovacuum_analyze_threshold = 2000);
ALTER TABLE ledger.commits_rest SET (autovacuum_analyze_threshold = 2000);
ALTER TABLE ledger.effects SET (autovacuum_analyze_threshold = 2000, autovacuum_vacuum_threshold = 2000);

CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: what happened stays', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;

-- Per statement, so an insert pays nothing for them. Of a commit only the key can be taken out, to shred it: the chain
-- still verifies then, and a payload that was removed can be guessed by no one.
CREATE TRIGGER commits_stay
    BEFORE UPDATE OF seq, lease, time_us, job_id, hash, body, checkpoint, terminal, tenant OR DELETE OR TRUNCATE
    ON ledger.commits
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
-- It works where the statement names the table, so each partition has its own.
CREATE TRIGGER commits_stay
    BEFORE UPDATE OF seq, lease, time_us, job_id, hash, body, checkpoint, terminal, tenant OR DELETE OR TRUNCATE
    ON ledger.commits_first
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER commits_stay
    BEFORE UPDATE OF seq, lease, time_us, job_id, hash, body, checkpoint, terminal, tenant OR DELETE OR TRUNCATE
    ON ledger.commits_rest
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER effects_stay BEFORE DELETE OR TRUNCATE ON ledger.effects
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
