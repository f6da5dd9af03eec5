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

-- Questions to people, what they answered, and the keys that sign tokens.

CREATE TABLE gateway.approvals (
    id                   uuid        NOT NULL,
    tenant               text        NOT NULL,
    job_id               uuid        NOT NULL,
    -- Where in the job's program: with the job, the name of the question.
    path                 text        NOT NULL,
    -- A role, or person:NAME.
    approver             text        NOT NULL,
    title                text        NOT NULL,
    -- JSON; empty for nothing.
    detail               bytea       NOT NULL,
    -- JSON; empty where nothing can be edited.
    arguments            bytea       NOT NULL,
    requester            text        NOT NULL,
    requester_may_decide boolean     NOT NULL,
    quorum               integer     NOT NULL,
    deadline             timestamptz,
    -- 1 pending, 2 approved, 3 rejected, 4 expired, 5 withdrawn.
    state                smallint    NOT NULL DEFAULT 1,
    created_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT approvals_pkey PRIMARY KEY (id),
    CONSTRAINT approvals_once UNIQUE (job_id, tenant, path),
    CONSTRAINT approvals_state_known CHECK (state BETWEEN 1 AND 5),
    CONSTRAINT approvals_quorum_reachable CHECK (quorum >= 1)
);

-- The inbox: what waits, oldest first. Ids are in the order in which questions were asked.
CREATE INDEX approvals_pending ON gateway.approvals (tenant, id) WHERE state = 1;
CREATE INDEX approvals_all ON gateway.approvals (tenant, id);

CREATE TABLE gateway.decisions (
    approval_id uuid        NOT NULL REFERENCES gateway.approvals (id),
    -- The order in which they were given, from 1.
    place       integer     NOT NULL,
    actor       text        NOT NULL,
    -- 1 yes, 2 no, 3 handed to somebody else.
    verdict     smallint    NOT NULL,
    comment     text        NOT NULL,
    -- The arguments as this person wants them, JSON; empty for as asked.
    edited      bytea       NOT NULL,
    -- To whom it was handed.
    delegate    text        NOT NULL,
    decided_at  timestamptz NOT NULL,
    CONSTRAINT decisions_pkey PRIMARY KEY (approval_id, place),
    CONSTRAINT decisions_verdict_known CHECK (verdict IN (1, 2, 3)),
    CONSTRAINT decisions_delegates_are_named CHECK ((verdict = 3) = (delegate <> ''))
);

CREATE UNIQUE INDEX decisions_once_per_person ON gateway.decisions (approval_id, actor) WHERE verdict IN (1, 2);

-- A question is decided by one note, whoever writes it.
CREATE UNIQUE INDEX notes_decision_once ON gateway.notes (job_id, tenant, name) WHERE kind = 3;

CREATE TABLE gateway.token_keys (
    -- The newest signs; all that are here are believed.
    id         integer     NOT NULL,
    secret     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT token_keys_pkey PRIMARY KEY (id),
    CONSTRAINT token_keys_are_long CHECK (octet_length(secret) >= 32)
);

-- What an edit of the arguments changed, JSON, computed once, when the decision is made. It is NULL in rows that are older
-- than this column, and for those it is computed when they are read.
ALTER TABLE gateway.decisions ADD COLUMN difference bytea;
