-- The inbox: what the world says to jobs, until a job's holder has written it into the job's chain.

CREATE SCHEMA gateway;

CREATE TABLE gateway.notes (
    id          uuid        NOT NULL,
    -- The order within a job. Given and committed under the job's lock (see sql/notes.sql), so whoever
    -- has seen a note has seen every note of that job before it.
    position    bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    tenant      text        NOT NULL,
    job_id      uuid        NOT NULL,
    -- 1 a signal, 2 a message, 3 a decision.
    kind        smallint    NOT NULL,
    -- The signal's correlation key, the message's channel.
    name        text        NOT NULL,
    -- The sender's id of a message.
    message_id  text,
    -- JSON, as it was sent.
    payload     bytea       NOT NULL,
    actor       text        NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- When the holder had it in the chain, or when it turned out that nobody will ever ask for it.
    -- The row stays: it is what makes the second sender of the same thing a success.
    settled_at  timestamptz,
    -- When the scheduler had been told.
    woken_at    timestamptz,
    CONSTRAINT notes_pkey PRIMARY KEY (id),
    CONSTRAINT notes_kind_known CHECK (kind IN (1, 2, 3)),
    CONSTRAINT notes_messages_have_ids CHECK ((kind = 2) = (message_id IS NOT NULL))
);

CREATE UNIQUE INDEX notes_signal_once ON gateway.notes (job_id, tenant, name) WHERE kind = 1;
CREATE UNIQUE INDEX notes_message_once ON gateway.notes (job_id, tenant, message_id) WHERE kind = 2;
-- What Fetch reads: short, however many notes a job has had.
CREATE INDEX notes_unsettled ON gateway.notes (job_id, position) WHERE settled_at IS NULL;
-- What the sweep reads: nearly always empty.
CREATE INDEX notes_unwoken ON gateway.notes (position) WHERE woken_at IS NULL;
