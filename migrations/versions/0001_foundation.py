"""The registry, the job table, and the functions that the DDL of user tables calls."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = (
    """
    CREATE TABLE semantic.encoder (
        id bigint PRIMARY KEY,
        reference text NOT NULL,
        dimensions integer NOT NULL CHECK (dimensions > 0),
        fingerprint text,
        revision text,
        max_tokens integer,
        first_loaded_at timestamptz,
        query_prompt text,  -- as declared, or NULL; after the first load, the actual prompt
        document_prompt text
    )
    """,
    """
    CREATE TABLE semantic.semantic_index (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text NOT NULL,
        source regclass NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (source, name)
    )
    """,
    """
    CREATE TABLE semantic.generation (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        index_id integer NOT NULL REFERENCES semantic.semantic_index ON DELETE CASCADE,
        role text NOT NULL CHECK (role IN ('live', 'next', 'previous')),
        encoder_id bigint NOT NULL REFERENCES semantic.encoder,
        chunks regclass NOT NULL UNIQUE,
        receipts regclass NOT NULL UNIQUE,
        spec jsonb NOT NULL,
        backfill_after text,
        backfilled_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (index_id, role)
    )
    """,
    # No foreign key to generation: it would cost every write of the application a lookup per row.
    """
    CREATE TABLE semantic.job (
        generation_id integer NOT NULL,
        key text COLLATE "C" NOT NULL,
        version bigint NOT NULL DEFAULT 1,
        state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'processing', 'failed')),
        priority smallint NOT NULL DEFAULT 0,
        attempts smallint NOT NULL DEFAULT 0,
        dirty_at timestamptz NOT NULL DEFAULT now(),
        available_at timestamptz NOT NULL DEFAULT now(),
        claim uuid,
        lease_until timestamptz,
        error text,
        PRIMARY KEY (generation_id, key),
        CHECK ((state = 'processing') = (claim IS NOT NULL)),
        CHECK ((claim IS NULL) = (lease_until IS NULL))
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0)
    """,
    """
    CREATE INDEX job_pending_idx ON semantic.job (generation_id, priority, available_at)
    WHERE state = 'pending'
    """,
    "CREATE INDEX job_lease_idx ON semantic.job (lease_until) WHERE state = 'processing'",
    """
    CREATE TABLE semantic.worker (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        host text NOT NULL,
        pid integer NOT NULL,
        started_at timestamptz NOT NULL DEFAULT now(),
        heartbeat_at timestamptz NOT NULL DEFAULT now()
    )
    """,
)

FUNCTIONS = (
    """
    CREATE FUNCTION semantic.register_index_v1(
        index_name text, index_source regclass, index_chunks regclass, index_receipts regclass,
        index_encoder_id bigint, index_spec jsonb
    ) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known_index integer;
        known_generation integer;
    BEGIN
        PERFORM semantic.unregister_index_v1(generation.chunks)  -- whose tables were dropped by hand
        FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        WHERE generation.role = 'live' AND NOT EXISTS (SELECT FROM pg_class WHERE oid = semantic_index.source)
          AND (generation.chunks = index_chunks OR NOT EXISTS (SELECT FROM pg_class WHERE oid = generation.chunks));
        IF (SELECT count(DISTINCT relnamespace) FROM pg_class WHERE oid IN (index_source, index_chunks)) > 1 THEN
            RAISE EXCEPTION 'table % and its semantic index % would be in different schemas', index_source, index_chunks
            USING ERRCODE = 'invalid_schema_definition', HINT = 'Specify the schema of the table.';
        END IF;
        IF EXISTS (
            SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhparent
            WHERE inhparent = index_source AND relkind <> 'p'
        ) THEN
            RAISE EXCEPTION 'other tables inherit from table %, and foreign keys do not cover their rows', index_source
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Create a semantic index on each child table, or use partitions instead of INHERITS.';
        END IF;
        PERFORM CAST(index_spec #>> '{lexical,config}' AS regconfig);  -- raises an error if it does not exist
        INSERT INTO semantic.encoder (id, reference, dimensions, query_prompt, document_prompt)
        VALUES (
            index_encoder_id,
            index_spec #>> '{encoder,reference}',
            (index_spec #>> '{encoder,dimensions}')::integer,
            index_spec #>> '{encoder,query_prompt}',
            index_spec #>> '{encoder,document_prompt}'
        )
        ON CONFLICT DO NOTHING;
        INSERT INTO semantic.semantic_index (name, source)
        VALUES (index_name, index_source)
        RETURNING id INTO known_index;
        INSERT INTO semantic.generation (index_id, role, encoder_id, chunks, receipts, spec)
        VALUES (
            known_index, 'live', index_encoder_id, index_chunks, index_receipts, index_spec
        )
        RETURNING id INTO known_generation;
        RETURN known_generation;
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.unregister_index_v1(index_chunks regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        gone integer := (SELECT index_id FROM semantic.generation WHERE chunks = index_chunks);
    BEGIN
        DELETE FROM semantic.job
        USING semantic.generation
        WHERE generation.index_id = gone AND job.generation_id = generation.id;
        DELETE FROM semantic.semantic_index WHERE id = gone;
        DELETE FROM semantic.encoder  -- so that another encoder can have its name later
        WHERE NOT EXISTS (SELECT FROM semantic.generation WHERE generation.encoder_id = encoder.id);
    END
    $body$
    """,
    # Whether the current role can read every row of a copy's source. If so, statistics of all rows tell it nothing new.
    """
    CREATE FUNCTION semantic.sees_all_v1(generation_id integer) RETURNS boolean
    LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        RETURN EXISTS (
            SELECT FROM semantic.generation
            JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
            WHERE generation.id = sees_all_v1.generation_id
              AND has_table_privilege(generation.receipts, 'SELECT') AND NOT row_security_active(semantic_index.source)
        );
    END
    $body$
    """,
)

# Without `backfill_after`, which is the key of a row.
GRANTS = (
    "GRANT USAGE ON SCHEMA semantic TO PUBLIC",
    "GRANT SELECT ON semantic.encoder, semantic.semantic_index TO PUBLIC",
    """
    GRANT SELECT (id, index_id, role, encoder_id, chunks, receipts, spec, backfilled_at, created_at)
    ON semantic.generation TO PUBLIC
    """,
)


def upgrade() -> None:
    for statement in (*TABLES, *FUNCTIONS, *GRANTS):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP FUNCTION semantic.sees_all_v1, semantic.register_index_v1, semantic.unregister_index_v1")
    for table in ("worker", "job", "generation", "semantic_index", "encoder"):
        op.execute(f"DROP TABLE semantic.{table}")
