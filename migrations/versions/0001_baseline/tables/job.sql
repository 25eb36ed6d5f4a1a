-- No foreign key to generation: it would cost every write of the application a lookup per row.
-- claim_limit: how many jobs may be claimed together with this one, because a worker was lost that had claimed it.
CREATE TABLE semantic.job (
    generation_id integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'processing', 'failed')),
    priority smallint NOT NULL DEFAULT 0,
    attempts smallint NOT NULL DEFAULT 0,
    dirty_at timestamptz NOT NULL DEFAULT now(),
    available_at timestamptz NOT NULL DEFAULT now(),
    claim_limit integer CHECK (claim_limit > 0),
    claim uuid,
    lease_until timestamptz,
    error text,
    PRIMARY KEY (generation_id, key),
    CHECK ((state = 'processing') = (claim IS NOT NULL)),
    CHECK ((claim IS NULL) = (lease_until IS NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX job_pending_idx ON semantic.job (generation_id, priority, available_at)
WHERE state = 'pending';

CREATE INDEX job_lease_idx ON semantic.job (lease_until) WHERE state = 'processing';
