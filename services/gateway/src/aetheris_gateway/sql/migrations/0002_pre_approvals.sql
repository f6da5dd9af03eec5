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
