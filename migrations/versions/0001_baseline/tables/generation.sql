CREATE TABLE semantic.generation (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    index_id integer NOT NULL REFERENCES semantic.semantic_index ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('live', 'next', 'previous')),
    role_since timestamptz NOT NULL DEFAULT now(),
    encoder_id bigint NOT NULL REFERENCES semantic.encoder,
    chunks regclass NOT NULL UNIQUE,
    receipts regclass NOT NULL UNIQUE,
    spec jsonb NOT NULL,
    backfill_after text,
    backfill_rows bigint NOT NULL DEFAULT 0,  -- compared since stale_since
    backfilled_at timestamptz,
    stale_since timestamptz,  -- rows without a job may be out of date since then
    stale_reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (index_id, role)
);
