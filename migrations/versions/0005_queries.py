"""Search from plain SQL: a function for each semantic index, and query vectors from a worker.

A NOTIFY tells a worker about a request. The worker encodes the text and stores the vector in a cache. A SELECT cannot
commit a request and then wait for the answer, so the request is made over a second connection with dblink, or in
advance with CALL.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

TABLES = (
    """
    CREATE TABLE semantic.query_vector (
        encoder_id bigint NOT NULL REFERENCES semantic.encoder ON DELETE CASCADE,
        text_hash bytea NOT NULL,
        vector real[] NOT NULL,
        made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (encoder_id, text_hash)
    )
    """,
    "CREATE INDEX query_vector_made_idx ON semantic.query_vector (made_at)",
    # Answered requests are deleted. After a crash, no session waits for the lost ones, so the table is unlogged.
    """
    CREATE UNLOGGED TABLE semantic.query_request (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        encoder_id bigint NOT NULL REFERENCES semantic.encoder ON DELETE CASCADE,
        text text NOT NULL,
        ends_at timestamptz NOT NULL DEFAULT clock_timestamp() + interval '1 minute',
        error text
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)
    """,
)

# $vector is the schema of pgvector.
FUNCTIONS = (
    """
    CREATE FUNCTION semantic.text_hash_v1(text text) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN sha256(convert_to(text, 'UTF8'))
    """,
    """
    CREATE FUNCTION semantic.require_query_v1(query text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        IF coalesce(query, '') !~ '[^[:space:]]' THEN
            RAISE EXCEPTION 'the query is empty'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass some words to search for.';
        ELSIF length(query) > 10000 THEN
            RAISE EXCEPTION 'the query has % characters', length(query)
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Shorten it to at most 10000 characters.';
        END IF;
    END
    $body$
    """,
    # SECURITY DEFINER, here and below: roles must not read what others search for, nor put vectors into the cache.
    """
    CREATE FUNCTION semantic.known_query_v1(encoder bigint, query text) RETURNS real[]
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT vector FROM semantic.query_vector
        WHERE encoder_id = encoder AND text_hash = semantic.text_hash_v1(query)
    $body$
    """,
    # Requests the vector of a text from the workers. Returns the id of the request, or NULL if the vector is known. A
    # request exists for as long as a caller waits for its answer, and for at least a minute. Each encoder has its own
    # queue, so that requests for one that no worker can load don't block others.
    """
    CREATE FUNCTION semantic.request_query_v1(
        encoder bigint, query text, seconds double precision
    ) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        waiting bigint;
        ended boolean;
        made bigint;
    BEGIN
        PERFORM semantic.require_query_v1(query);
        IF semantic.known_query_v1(encoder, query) IS NOT NULL THEN
            RETURN NULL;
        ELSIF NOT EXISTS (SELECT FROM semantic.worker WHERE heartbeat_at > now() - interval '1 minute') THEN
            RAISE EXCEPTION 'the query cannot be encoded: no worker is running'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Start one: pg-semantic worker.';
        END IF;
        SELECT count(*) FILTER (WHERE encoder_id = encoder AND error IS NULL AND ends_at >= clock_timestamp()),
               bool_or(ends_at < clock_timestamp())
        INTO waiting, ended
        FROM semantic.query_request;
        IF ended THEN
            DELETE FROM semantic.query_request
            WHERE id IN (
                SELECT id FROM semantic.query_request
                WHERE ends_at < clock_timestamp()
                LIMIT 100
                FOR UPDATE SKIP LOCKED
            );
        END IF;
        IF waiting >= 500 THEN
            RAISE EXCEPTION 'the query cannot be encoded: 500 others are already waiting'
            USING ERRCODE = 'insufficient_resources',
                HINT = 'Try again in a moment. If this continues, run more workers.';
        END IF;
        INSERT INTO semantic.query_request (encoder_id, text, ends_at)
        VALUES (encoder, query, clock_timestamp() + make_interval(secs => least(greatest(seconds, 60), 300)))
        RETURNING id INTO made;
        PERFORM pg_notify('semantic_query', '');
        RETURN made;
    END
    $body$
    """,
    # Waits for the answer. Each poll is a statement of its own, so it sees what has been committed since. Returns NULL
    # if no answer arrives within this many seconds. Polls often at first, unless a call has waited for the request
    # before.
    """
    CREATE FUNCTION semantic.await_query_v1(
        encoder bigint, query text, request bigint, seconds double precision, is_new boolean
    ) RETURNS real[]
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        hash bytea := semantic.text_hash_v1(query);
        ends timestamptz := clock_timestamp() + make_interval(secs => least(seconds, 300));
        pause double precision := CASE WHEN is_new THEN 0.0005 ELSE 0.05 END;
        known real[];
        trouble text;
    BEGIN
        LOOP
            SELECT made.vector, asked.error INTO known, trouble
            FROM (VALUES (encoder)) AS one (encoder_id)
            LEFT JOIN semantic.query_vector AS made ON made.encoder_id = one.encoder_id AND made.text_hash = hash
            LEFT JOIN semantic.query_request AS asked
                ON asked.id = request AND asked.encoder_id = one.encoder_id AND asked.text = query;
            IF trouble IS NOT NULL AND known IS NULL THEN
                RAISE EXCEPTION 'the query cannot be encoded: %', trouble USING ERRCODE = 'external_routine_exception';
            ELSIF known IS NOT NULL OR clock_timestamp() >= ends THEN
                RETURN known;
            END IF;
            PERFORM pg_sleep(least(pause, greatest(0, extract(epoch FROM ends - clock_timestamp()))));
            pause := least(pause * 1.05, 0.05);
        END LOOP;
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.require_answer_v1(vector real[], seconds double precision) RETURNS real[]
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        IF vector IS NULL THEN
            RAISE EXCEPTION 'the query was not encoded within % seconds', seconds
            USING ERRCODE = 'query_canceled',
                HINT = 'Check that a worker is running and can load the encoder. To wait longer: '
                    'SET semantic.wait_seconds = 30, and a statement_timeout above that.';
        END IF;
        RETURN vector;
    END
    $body$
    """,
    # Stores the vectors of requests, concatenated in order, and deletes the requests. The vectors are visible at once
    # and need not survive a crash, so the commit doesn't wait for the disk. This is a function because the server keeps
    # its plan, whatever pooler is in between.
    """
    CREATE FUNCTION semantic.answer_queries_v1(requests bigint[], vectors real[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        size integer := cardinality(vectors) / cardinality(requests);
    BEGIN
        PERFORM set_config('synchronous_commit', 'off', true);
        WITH answered AS (
            DELETE FROM semantic.query_request WHERE id = ANY(requests) RETURNING id, encoder_id, text
        )
        INSERT INTO semantic.query_vector (encoder_id, text_hash, vector)
        SELECT DISTINCT ON (encoder_id, text)
               encoder_id, semantic.text_hash_v1(text), vectors[(number - 1) * size + 1:number * size]
        FROM answered
        JOIN unnest(requests) WITH ORDINALITY AS made (id, number) USING (id)
        ON CONFLICT DO NOTHING;
    END
    $body$
    """,
    # Makes the request, if there is none yet, and waits part of the time for the answer. It commits in the middle, so
    # it can neither be SECURITY DEFINER nor have a search_path of its own.
    """
    CREATE PROCEDURE semantic.embed_query_v1(
        encoder bigint, query text, seconds double precision, part double precision,
        INOUT request bigint, INOUT vector real[]
    )
    LANGUAGE plpgsql
    AS $body$
    DECLARE
        is_new boolean := request IS NULL;
    BEGIN
        IF is_new THEN
            COMMIT;  -- so that the next transaction can be read-write, whatever the default is
            SET TRANSACTION READ WRITE;
            request := semantic.request_query_v1(encoder, query, seconds);
        END IF;
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
        vector := semantic.await_query_v1(encoder, query, request, part, is_new);
    END
    $body$
    """,
    # How long a search waits. The wait ends before a statement_timeout would, whose error doesn't say what to do.
    """
    CREATE FUNCTION semantic.wait_seconds_v1() RETURNS double precision
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN least(
        CAST(coalesce(nullif(current_setting('semantic.wait_seconds', true), ''), '5') AS double precision),
        0.8 * CAST(nullif(
            extract(epoch FROM CAST(current_setting('statement_timeout') AS interval)), 0
        ) AS double precision)
    )
    """,
    # Asks a worker over a second connection, which stays open for the session's next query. Each call there waits for
    # at most a fifth of a second, because dblink ends a canceled SELECT only once it has an answer. If the signal to
    # cancel arrives twice, dblink leaves the connection busy, and the next call fails with an internal error.
    """
    CREATE FUNCTION semantic.ask_worker_v1(encoder bigint, query text, seconds double precision) RETURNS real[]
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        place text;
        open boolean;
        connected boolean;
        failures integer := 0;
        part double precision;
        ends timestamptz := clock_timestamp() + make_interval(secs => least(seconds, 300));
        request bigint;
        answer real[];
    BEGIN
        SELECT quote_ident(nspname), has_schema_privilege('public', pg_namespace.oid, 'USAGE') INTO place, open
        FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
        WHERE extname = 'dblink' AND EXISTS (SELECT FROM pg_foreign_server WHERE srvname = 'semantic');
        IF place IS NULL THEN
            RAISE EXCEPTION 'the query has no vector yet, and a SELECT cannot ask a worker for it without dblink'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Run CALL semantic.embed_query(index, query) first, or set up dblink and the foreign server '
                    '"semantic".';
        ELSIF open THEN
            RAISE EXCEPTION 'every role can use dblink, and with it the connection that requests query vectors'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Restrict dblink to the owner of the schema "semantic": CREATE SCHEMA semantic_dblink; GRANT '
                    'USAGE ON SCHEMA semantic_dblink TO the owner; ALTER EXTENSION dblink SET SCHEMA semantic_dblink.';
        END IF;
        EXECUTE format('SELECT ''semantic'' = ANY(%s.dblink_get_connections())', place) INTO connected;
        LOOP
            IF connected IS NOT TRUE THEN
                EXECUTE format('SELECT %s.dblink_connect(''semantic'', ''semantic'')', place);
                EXECUTE format('SELECT %s.dblink_exec(''semantic'', ''SET statement_timeout = 0'')', place);
                connected := true;
            END IF;
            part := least(greatest(extract(epoch FROM ends - clock_timestamp()), 0), 0.2);
            BEGIN
                EXECUTE format(
                    'SELECT * FROM %s.dblink(''semantic'', $1) AS made (request bigint, vector real[])', place
                ) INTO request, answer
                USING format(
                    'CALL semantic.embed_query_v1(%s, %L, %L, %L, %L, NULL)', encoder, query, seconds, part, request
                );
            EXCEPTION WHEN connection_exception OR connection_failure OR connection_does_not_exist
                OR admin_shutdown OR crash_shutdown OR internal_error THEN
                EXECUTE format('SELECT %s.dblink_disconnect(''semantic'')', place);
                connected := false;
                request := NULL;
                failures := failures + 1;
                IF failures = 3 THEN
                    RAISE;
                END IF;
            END;
            EXIT WHEN connected AND (answer IS NOT NULL OR clock_timestamp() >= ends);
        END LOOP;
        RETURN semantic.require_answer_v1(answer, seconds);
    END
    $body$
    """,
    # The generation of a chunk table, found by the table's current name.
    """
    CREATE FUNCTION semantic.generation_v1(index_chunks regclass) RETURNS integer
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        known integer := (SELECT id FROM semantic.generation WHERE chunks = index_chunks);
        trouble text := (
            SELECT semantic.source_trouble_v1(index_id) FROM semantic.generation WHERE chunks = index_chunks
        );
    BEGIN
        IF known IS NULL THEN
            RAISE EXCEPTION '% is not a semantic index', index_chunks
            USING ERRCODE = 'undefined_object', HINT = 'SELECT * FROM semantic.index_status lists them.';
        ELSIF trouble IS NOT NULL THEN
            RAISE EXCEPTION 'semantic index % cannot be searched: %', index_chunks, trouble
            USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        RETURN known;
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.embed_v1(generation integer, query text) RETURNS $vector.vector
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        encoder bigint := (SELECT encoder_id FROM semantic.generation WHERE id = embed_v1.generation);
    BEGIN
        PERFORM semantic.require_query_v1(query);
        RETURN coalesce(
            semantic.known_query_v1(encoder, query),
            semantic.ask_worker_v1(encoder, query, semantic.wait_seconds_v1())
        );
    END
    $body$
    """,
    # Functions that users call have no version in their names, and only call those that do.
    """
    CREATE FUNCTION semantic.embed(index regclass, query text) RETURNS $vector.vector
    LANGUAGE sql STABLE
    AS $body$
        SELECT semantic.embed_v1(semantic.generation_v1(index), query)
    $body$
    """,
    """
    CREATE PROCEDURE semantic.embed_query(index regclass, query text)
    LANGUAGE plpgsql
    AS $body$
    DECLARE
        encoder bigint;
        seconds double precision;
        request bigint;
        made real[];
    BEGIN
        SELECT encoder_id INTO encoder FROM semantic.generation WHERE id = semantic.generation_v1(index);
        seconds := semantic.wait_seconds_v1();
        CALL semantic.embed_query_v1(encoder, query, seconds, seconds, request, made);
        PERFORM semantic.require_answer_v1(made, seconds);
    END
    $body$
    """,
)

SEARCH = (
    # Replaces the names in braces in a template, in one pass: the replacements are not searched again.
    """
    CREATE FUNCTION semantic.filled_v1(template text, places jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    RETURN (
        SELECT string_agg(concat(piece[1], places ->> piece[2]), '' ORDER BY number)
        FROM regexp_matches(concat(template, '{}'), '(.*?)[{]([[:alnum:]_]*)[}]', 'g')
            WITH ORDINALITY AS found (piece, number)
    )
    """,
    # The key columns of a spec, each after an alias.
    """
    CREATE FUNCTION semantic.key_v1(spec jsonb, alias text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    RETURN (
        SELECT string_agg(concat(alias, quote_ident(part.value ->> 'name')), ', ' ORDER BY number)
        FROM jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS part (value, number)
    )
    """,
    # The keys that a search is restricted to, from parameters 5 and up, as a table called given. Keys that are arrays
    # or records are passed as text, because unnest would split these too.
    """
    CREATE FUNCTION semantic.given_keys_v1(spec jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    RETURN (
        SELECT format(
            '(SELECT %s FROM unnest(%s) AS listed (%s)) AS given',
            string_agg(format('CAST(%1$I AS %2$s) AS %1$I', part.value ->> 'name',
                              split_part(part.value ->> 'type', ' COLLATE ', 1)), ', ' ORDER BY number),
            string_agg('$' || number + 4, ', ' ORDER BY number),
            string_agg(quote_ident(part.value ->> 'name'), ', ' ORDER BY number)
        )
        FROM jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS part (value, number)
    )
    """,
    # Raises an error unless every key column has the same number of values.
    """
    CREATE FUNCTION semantic.require_keys_v1(lengths integer[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        IF EXISTS (SELECT FROM unnest(lengths) AS length WHERE length IS DISTINCT FROM lengths[1]) THEN
            RAISE EXCEPTION 'the key columns have different numbers of values: %',
                array_to_string(lengths, ', ', 'none')
            USING ERRCODE = 'invalid_parameter_value',
                HINT = 'Pass an array for each keys_ parameter, all of the same length: one value of each per row.';
        END IF;
    END
    $body$
    """,
    # What replaces the names in braces in the templates of a search.
    """
    CREATE FUNCTION semantic.search_places_v1(generation integer, depth integer, filtered boolean) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT jsonb_build_object(
            'key', semantic.key_v1(spec, ''),
            'source_key', semantic.key_v1(spec, 'source.'),
            'chunk_of_source', semantic.equal_v1(source, spec, 'chunk.', 'source.'),
            'chunk_of_found', semantic.equal_v1(source, spec, 'chunk.', 'found.'),
            'other_of_chunk', semantic.equal_v1(source, spec, 'other.', 'chunk.'),
            'source_of_matched', semantic.equal_v1(source, spec, 'source.', 'matched.'),
            'dense_is_lexical', semantic.equal_v1(source, spec, 'dense.', 'lexical.'),
            'either_key', (
                SELECT string_agg(format('coalesce(dense.%1$I, lexical.%1$I) AS %1$I', part ->> 'name'), ', ')
                FROM jsonb_array_elements(spec -> 'key') AS part
            ),
            'receipt_key', semantic.key_v1(spec, 'receipt.'),
            'found_key', semantic.key_v1(spec, 'found.'),
            'source', CASE relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || source,
            'chunks', 'semantic.chunks_' || id,
            'receipts', 'semantic.receipts_' || id,
            'generation', id,
            'depth', depth,
            'ef_search', least(greatest(depth * 2, 100), 1000),
            'tie_break', CASE  -- since PostgreSQL 17, rows that arrive in order of distance can be sorted further
                WHEN CAST(current_setting('server_version_num') AS integer) >= 170000
                THEN ', ' || semantic.key_v1(spec, 'source.')
            END,
            'filter', CASE WHEN filtered THEN format(
                'EXISTS (SELECT FROM %s WHERE %s)',
                semantic.given_keys_v1(spec), semantic.equal_v1(source, spec, 'source.', 'given.')
            ) ELSE 'true' END,
            'filtered', filtered,
            'config', format('CAST(%L AS regconfig)', spec #>> '{lexical,config}'),
            'k1', format('CAST(%L AS double precision)', spec #>> '{lexical,k1}'),
            'b', format('CAST(%L AS double precision)', spec #>> '{lexical,b}'),
            'vector', format('CAST($1 AS %I.%I)', nspname, spec ->> 'storage'),
            'distance', format('OPERATOR(%I.<=>)', nspname),
            'product', format('OPERATOR(%I.<#>)', nspname)
        )
        FROM (
            SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
            WHERE extname = 'vector'
        ) AS pgvector
        CROSS JOIN (
            SELECT generation.id, semantic.spec_v1(spec, chunks) AS spec, source, relkind
            FROM semantic.generation
            JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
            JOIN pg_class ON pg_class.oid = source
            WHERE generation.id = search_places_v1.generation
        ) AS known
    $body$
    """,
    # The statement of a search. Its parameters are the query's vector, its text, the number of rows, the minimum score,
    # and the keys, one array per key column. It ranks like pg_semantic.search: a row by its nearest chunk, through the
    # vector index, or exactly if that finds too few rows; by BM25; or by the reciprocal ranks of both.
    """
    CREATE FUNCTION semantic.search_v1(generation integer, mode text, k integer, filtered boolean) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        dense text := $sql$
            near AS MATERIALIZED (
                SELECT {source_key}, 1 - (chunk.vector {distance} {vector}) AS _value
                FROM {source} AS source
                JOIN {chunks} AS chunk ON {chunk_of_source}
                WHERE NOT {filtered} AND (
                    SELECT other.ordinal = chunk.ordinal
                    FROM {chunks} AS other
                    WHERE {other_of_chunk}
                    ORDER BY (other.vector {distance} {vector}) + 0, other.ordinal
                    LIMIT 1
                )
                ORDER BY chunk.vector {distance} (
                    SELECT CASE WHEN set_config('hnsw.ef_search', '{ef_search}', true) <> '' THEN {vector} END
                ) {tie_break}
                LIMIT {depth}
            ),
            computed AS MATERIALIZED (
                SELECT {source_key}, 1 - nearest.distance AS _value
                FROM {source} AS source
                CROSS JOIN LATERAL (
                    SELECT (chunk.vector {distance} {vector}) + 0 AS distance
                    FROM {chunks} AS chunk
                    WHERE {chunk_of_source}
                    ORDER BY distance
                    LIMIT 1
                ) AS nearest
                WHERE (SELECT count(*) < {depth} FROM near) AND {filter}
                ORDER BY nearest.distance, {source_key}
                LIMIT {depth}
            ),
            dense AS MATERIALIZED (
                SELECT *, row_number() OVER (ORDER BY _value DESC, {key}) AS _rank
                FROM (
                    SELECT * FROM near WHERE (SELECT count(*) >= {depth} FROM near)
                    UNION ALL
                    SELECT * FROM computed
                ) AS found
            )$sql$;
        lexical text := $sql$
            words AS MATERIALIZED (
                SELECT asked.matching, asked.weights
                FROM semantic.generation
                CROSS JOIN semantic.bm25_query_v1(generation.receipts, {config}, $2, 'any') AS asked
                WHERE generation.id = {generation}
            ),
            lexical AS MATERIALIZED (
                SELECT {source_key}, matched._value,
                       row_number() OVER (ORDER BY matched._value DESC, {source_key}) AS _rank
                FROM (
                    SELECT {receipt_key}, -(receipt.weights {product} (SELECT weights FROM words)) AS _value
                    FROM {receipts} AS receipt
                    WHERE receipt.lexemes @@ (SELECT matching FROM words)
                    ORDER BY _value DESC, {receipt_key}
                ) AS matched
                JOIN {source} AS source ON {source_of_matched}
                WHERE {filter}
                ORDER BY matched._value DESC, {source_key}
                LIMIT {depth}
            )$sql$;
        hybrid text := $sql$
            hybrid AS MATERIALIZED (
                SELECT {either_key}, reach._step,
                       CASE WHEN dense._rank <= reach._step THEN 1 / (CAST(60 AS double precision) + dense._rank)
                            ELSE 0 END
                       + CASE WHEN lexical._rank <= reach._step THEN 1 / (CAST(60 AS double precision) + lexical._rank)
                              ELSE 0 END AS _value
                FROM dense FULL JOIN lexical ON {dense_is_lexical}
                CROSS JOIN LATERAL (
                    SELECT min(100 * (1 << doubled)) AS _step
                    FROM generate_series(0, 7) AS doubled
                    WHERE 100 * (1 << doubled) >= least(dense._rank, lexical._rank)
                ) AS reach
            )$sql$;
        shown text := $sql$
            SELECT {found_key}, found._value, passage.content, passage.ordinal
            FROM (
                SELECT * FROM {mode} AS found
                WHERE $4 IS NULL OR _value >= $4 {comparable}
                ORDER BY {step} found._value DESC, {key}
                LIMIT $3
            ) AS found
            LEFT JOIN LATERAL (
                SELECT chunk.content, chunk.ordinal
                FROM {chunks} AS chunk
                WHERE {chunk_of_found}
                ORDER BY {relevance}, chunk.ordinal
                LIMIT 1
            ) AS passage ON true
            ORDER BY {step} found._value DESC, {found_key}$sql$;
        near text := '(chunk.vector {distance} {vector}) + 0';
        worded text := $sql$
            semantic.bm25_weights_v1(
                semantic.lexemes_v1({config}, chunk.content),
                coalesce((
                    SELECT weights_length FROM semantic.readable_lexicon WHERE generation_id = {generation}
                ), 100),
                {k1}, {b}
            ) {product} (SELECT weights FROM words)$sql$;
        depth integer := k;
        places jsonb;
    BEGIN
        PERFORM semantic.require_search_v1(generation, mode, k);
        IF mode = 'hybrid' THEN
            depth := 100;
            WHILE depth < k LOOP
                depth := depth * 2;
            END LOOP;
        END IF;
        places := semantic.search_places_v1(generation, depth, filtered);
        places := places || jsonb_build_object(
            'mode', mode,
            'step', CASE mode WHEN 'hybrid' THEN 'found._step,' END,
            'comparable', CASE mode WHEN 'hybrid' THEN 'AND found._step = 100' END,
            'relevance', semantic.filled_v1(CASE mode WHEN 'lexical' THEN worded ELSE near END, places)
        );
        RETURN semantic.filled_v1(
            'WITH ' || CASE mode
                WHEN 'dense' THEN dense
                WHEN 'lexical' THEN lexical
                ELSE concat_ws(', ', dense, lexical, hybrid)
            END || shown,
            places
        );
    END
    $body$
    """,
    # Rejects invalid arguments of a search.
    """
    CREATE FUNCTION semantic.require_search_v1(generation integer, mode text, k integer) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        IF mode IS NULL OR mode NOT IN ('dense', 'lexical', 'hybrid') THEN
            RAISE EXCEPTION 'mode % is unknown', quote_nullable(mode)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use ''dense'', ''lexical'' or ''hybrid''.';
        ELSIF k IS NULL OR k NOT BETWEEN 1 AND 10000 THEN
            RAISE EXCEPTION 'k is %', coalesce(CAST(k AS text), 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the number of rows to return, from 1 to 10000.';
        ELSIF mode <> 'dense' AND EXISTS (
            SELECT FROM semantic.generation AS known
            WHERE known.id = generation AND jsonb_typeof(known.spec -> 'lexical') IS DISTINCT FROM 'object'
        ) THEN
            RAISE EXCEPTION 'the semantic index has no BM25: its live copy was created with lexical=None'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Search with mode => ''dense''.';
        END IF;
    END
    $body$
    """,
    # Drops the search function of an index, whatever its arguments, but no other function with that name. A search
    # function in a schema without a table of the index's name searches nothing, so it is dropped too.
    """
    CREATE FUNCTION semantic.unmake_search_v1(known_index integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        made regprocedure;
    BEGIN
        FOR made IN
            SELECT pg_proc.oid
            FROM semantic.semantic_index
            JOIN pg_proc ON proname = semantic_index.name || '_search'
            JOIN pg_namespace ON pg_namespace.oid = pronamespace
            WHERE semantic_index.id = known_index AND position('semantic.search_v1(asked' IN prosrc) > 0 AND (
                pronamespace = (
                    SELECT relnamespace
                    FROM semantic.generation JOIN pg_class ON pg_class.oid = generation.chunks
                    WHERE index_id = known_index AND role = 'live'
                )
                OR to_regclass(format('%I.%I', nspname, semantic_index.name)) IS NULL
            )
        LOOP
            EXECUTE format('DROP FUNCTION %s', made);
        END LOOP;
    END
    $body$
    """,
    # Creates the search function: with the types of the key, with the rights of its caller, and for whichever copy of
    # the index is live when it is called.
    """
    CREATE FUNCTION semantic.make_search_v1(known_index integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        template text := $sql$
            CREATE FUNCTION {name}(
                query text, k integer DEFAULT 10, mode text DEFAULT 'dense', {filters},
                min_score double precision DEFAULT NULL
            ) RETURNS TABLE ({found}, score double precision, passage text, ordinal integer)
            LANGUAGE plpgsql STABLE
            SET search_path = pg_catalog, pg_temp
            SET hnsw.ef_search = 100
            SET hnsw.iterative_scan = 'strict_order'
            SET hnsw.max_scan_tuples = 1000000
            SET hnsw.scan_mem_multiplier = 32
            AS {body}$sql$;
        body text := $sql$
            DECLARE
                asked integer := semantic.generation_v1({chunks});
            BEGIN
                PERFORM semantic.require_query_v1($1);{checked}
                RETURN QUERY EXECUTE semantic.search_v1(asked, $3, $2, {filtered})
                USING CASE WHEN $3 <> 'lexical' THEN semantic.embed_v1(asked, $1) END, $1, $2, {min_score}, {keys};
            END
            $sql$;
        taken text[] := '{query,k,mode,keys,min_score,score,passage,ordinal,asked}';
        places jsonb;
        made text;
    BEGIN
        PERFORM semantic.unmake_search_v1(known_index);
        SELECT format('%I.%I', nspname, index.name || '_search'), jsonb_build_object(
            'chunks', quote_literal(format('%I.%I', nspname, index.name)) || '::regclass',
            'min_score', '$' || 4 + count(*),
            'filtered', string_agg(format('$%s IS NOT NULL', 3 + number), ' OR ' ORDER BY number),
            'keys', string_agg(format('$%s', 3 + number), ', ' ORDER BY number),
            'filters', string_agg(
                format('%I %s[] DEFAULT NULL', CASE WHEN many THEN 'keys_' || attname ELSE 'keys' END, given), ', '
                ORDER BY number
            ),
            'checked', CASE WHEN count(*) > 1 THEN format(
                ' PERFORM semantic.require_keys_v1(ARRAY[%s]);',
                string_agg(format('cardinality($%s)', 3 + number), ', ' ORDER BY number)
            ) ELSE '' END,
            'types', string_agg(given || '[]', ', ' ORDER BY number),
            'found', string_agg(
                format('%I %s', CASE WHEN attname = ANY(taken) THEN 'key_' || attname ELSE attname END, type), ', '
                ORDER BY number
            )
        )
        INTO made, places
        FROM semantic.semantic_index AS index
        JOIN semantic.generation AS live ON live.index_id = index.id AND live.role = 'live'
        JOIN pg_class AS chunks ON chunks.oid = live.chunks
        JOIN pg_namespace ON pg_namespace.oid = chunks.relnamespace
        CROSS JOIN LATERAL (
            SELECT number, CAST(attname AS text) AS attname, format_type(atttypid, NULL) AS type,
                   CASE WHEN typcategory IN ('A', 'C') THEN 'text' ELSE format_type(atttypid, NULL) END AS given,
                   jsonb_array_length(live.spec -> 'key') > 1 AS many
            FROM jsonb_array_elements(live.spec -> 'key') WITH ORDINALITY AS part (value, number)
            JOIN pg_attribute ON attrelid = index.source AND attname = part.value ->> 'name'
            JOIN pg_type ON pg_type.oid = atttypid
        ) AS key
        WHERE index.id = known_index
        GROUP BY nspname, index.name;
        PERFORM semantic.sparsevec_v1('{1:1}/1');  -- loads pgvector, so that its settings can be named
        EXECUTE semantic.filled_v1(template, places || jsonb_build_object(
            'name', made, 'body', quote_literal(semantic.filled_v1(body, places))
        ));
        EXECUTE format(
            'COMMENT ON FUNCTION %s(text, integer, text, %s, double precision) IS %L', made, places ->> 'types',
            'Finds rows by meaning: SELECT * FROM ' || made || '(''some words'', 10). '
            'mode is dense, lexical or hybrid. Finds only rows with these keys, and with a score of at least min_score.'
        );
        PERFORM semantic.follow_rights_v1(
            known_index, false,
            ARRAY(SELECT part.name FROM semantic.parts_v1(known_index) AS part WHERE part.kind = 'FUNCTION')
        );
    END
    $body$
    """,
    # The first step of a refresh: drops the foreign keys of all copies. ALTER TABLE on a table with a foreign key would
    # lock the referenced table for as long as it writes.
    """
    CREATE FUNCTION semantic.unlink_key_v1(known_index integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        link record;
    BEGIN
        PERFORM semantic.lock_v1('ACCESS EXCLUSIVE', VARIADIC semantic.relations_v1(known_index, NULL));
        FOR link IN
            SELECT CAST(conrelid AS regclass) AS relation, conname
            FROM semantic.semantic_index
            JOIN semantic.generation ON generation.index_id = semantic_index.id
            JOIN pg_constraint ON contype = 'f' AND conparentid = 0 AND confrelid = semantic_index.source
                AND conrelid IN (generation.chunks, generation.receipts)
            WHERE semantic_index.id = known_index
        LOOP
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', link.relation, link.conname);
        END LOOP;
    END
    $body$
    """,
    # The third step: adds the missing foreign keys, which the last step validates.
    """
    CREATE FUNCTION semantic.link_key_v1(known_index integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        PERFORM semantic.lock_v1('SHARE ROW EXCLUSIVE', VARIADIC semantic.relations_v1(known_index, NULL));
        PERFORM semantic.add_foreign_keys_v1(known_index);
        PERFORM semantic.restart_backfill_v1(known_index, 'its foreign keys were dropped', true)
        FROM semantic.generation  -- a row may have moved to another tenant meanwhile, which leaves no mark
        WHERE index_id = known_index AND role = 'live' AND spec ->> 'rights_by' IS NOT NULL
          AND NOT spec -> 'key' @> jsonb_build_array(jsonb_build_object('name', spec ->> 'rights_by'));
    END
    $body$
    """,
    # The last step: deletes the chunks and receipts of rows that were deleted, or got another key, while there were no
    # foreign keys, and validates the foreign keys. No writer waits for this.
    """
    CREATE FUNCTION semantic.validate_key_v1(known_index integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        link record;
    BEGIN
        FOR link IN
            SELECT CAST(conrelid AS regclass) AS relation, conname, source,
                   semantic.equal_v1(source, spec, 'own.', 'there.') AS same_key
            FROM semantic.semantic_index
            JOIN semantic.generation ON generation.index_id = semantic_index.id
            JOIN pg_constraint ON contype = 'f' AND conparentid = 0 AND confrelid = semantic_index.source
                AND conrelid IN (generation.chunks, generation.receipts) AND NOT convalidated
            WHERE semantic_index.id = known_index
        LOOP
            EXECUTE format(
                'DELETE FROM %s AS own WHERE NOT EXISTS (SELECT FROM %s AS there WHERE %s)',
                link.relation, link.source, link.same_key
            );
            EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', link.relation, link.conname);
        END LOOP;
    END
    $body$
    """,
    # The second step: gives the tables of all copies of an index the current key of its source, with ALTER TABLE on
    # each, and recreates what depends on a key. Searches wait; writers don't, because the source is not locked. A large
    # vector index is dropped before its table is rewritten, and a worker builds it again. Rows that the server has
    # rejected so far are tried again.
    """
    CREATE FUNCTION semantic.refresh_key_v1(known_index integer, key jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        due record;
    BEGIN
        PERFORM semantic.lock_v1(
            'ACCESS EXCLUSIVE', VARIADIC array_remove(semantic.relations_v1(known_index, NULL), source)
        )
        FROM semantic.semantic_index
        WHERE id = known_index;
        PERFORM semantic.unmake_search_v1(known_index);
        FOR due IN
            SELECT format('DROP VIEW semantic.%I', relname) AS step, 1 AS number
            FROM semantic.generation
            JOIN pg_class ON pg_class.oid IN (
                to_regclass('semantic.chunks_' || generation.id), to_regclass('semantic.receipts_' || generation.id)
            )
            WHERE index_id = known_index
            UNION ALL
            SELECT format('DROP POLICY %I ON %s', polname, CAST(polrelid AS regclass)), 2
            FROM semantic.generation
            JOIN pg_policy ON polrelid IN (generation.chunks, generation.receipts)
            WHERE index_id = known_index
              AND starts_with(obj_description(pg_policy.oid, 'pg_policy'), 'Made and followed by pg_semantic')
            UNION ALL
            SELECT format('DROP INDEX %s', CAST(indexrelid AS regclass)), 3
            FROM semantic.generation
            JOIN pg_index ON indrelid = generation.chunks
            JOIN pg_class ON pg_class.oid = indexrelid AND pg_relation_size(indexrelid) > 16000000
            JOIN pg_am ON pg_am.oid = relam AND amname = 'hnsw'
            WHERE index_id = known_index AND EXISTS (
                SELECT FROM semantic.altered_key_v1(known_index) WHERE relation = generation.chunks AND NOT quick
            )
            UNION ALL
            SELECT format('ALTER TABLE %s %s', relation, string_agg(
                format('ALTER COLUMN %1$I TYPE %2$s USING CAST(%1$I AS %3$s)', part, wanted,
                       regexp_replace(wanted, ' COLLATE .*', '')), ', ')), 4
            FROM semantic.altered_key_v1(known_index)
            GROUP BY relation
            ORDER BY number, step
        LOOP
            EXECUTE due.step;
        END LOOP;
        UPDATE semantic.generation SET spec = jsonb_set(spec, '{key}', refresh_key_v1.key) WHERE index_id = known_index;
        PERFORM semantic.expose_v1(id) FROM semantic.generation WHERE index_id = known_index ORDER BY id;
        PERFORM semantic.make_search_v1(known_index);
        UPDATE semantic.job
        SET state = 'pending', attempts = 0, error = NULL, available_at = now()
        FROM semantic.generation
        WHERE generation.index_id = known_index AND job.generation_id = generation.id
          AND state = 'failed' AND error LIKE '%(SQLSTATE %)';
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.register_index_v3(
        index_name text, index_source regclass, index_chunks regclass, index_receipts regclass,
        index_encoder_id bigint, index_spec jsonb
    ) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        made integer;
    BEGIN
        PERFORM semantic.unregister_index_v3(generation.chunks)  -- whose tables were dropped by hand
        FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        WHERE generation.role = 'live' AND NOT EXISTS (SELECT FROM pg_class WHERE oid = semantic_index.source)
          AND (generation.chunks = index_chunks OR NOT EXISTS (SELECT FROM pg_class WHERE oid = generation.chunks));
        made := semantic.register_index_v2(
            index_name, index_source, index_chunks, index_receipts, index_encoder_id, index_spec
        );
        PERFORM semantic.make_search_v1(index_id) FROM semantic.generation WHERE id = made;
        RETURN made;
    END
    $body$
    """,
    """
    CREATE FUNCTION semantic.unregister_index_v3(index_chunks regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    BEGIN
        PERFORM semantic.unmake_search_v1(index_id) FROM semantic.generation WHERE chunks = index_chunks;
        PERFORM semantic.unregister_index_v2(index_chunks);
    END
    $body$
    """,
)

RIGHTS = (
    # What every role can read in our schema. Every role can also call the functions that run with the caller's rights
    # and, of those that run with the owner's, the ones that request the vector of a query.
    """
    CREATE FUNCTION semantic.public_rights_v1() RETURNS TABLE (object text, of_column name, privilege text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT 'SCHEMA semantic', NULL, 'USAGE'
        UNION ALL
        SELECT 'TABLE semantic.' || relation, NULL, 'SELECT'
        FROM unnest(
            ARRAY[
                'captured', 'encoder', 'history', 'index_status', 'readable_lexicon', 'readable_term', 'semantic_index'
            ]
        ) AS relation
        UNION ALL
        SELECT 'TABLE semantic.generation', attname, 'SELECT'
        FROM pg_attribute
        WHERE attrelid = CAST('semantic.generation' AS regclass) AND attnum > 0 AND NOT attisdropped
          AND attname NOT IN ('backfill_after', 'backfill_rows')  -- a row's key, and a count of rows
        UNION ALL
        SELECT 'ROUTINE ' || CAST(CAST(oid AS regprocedure) AS text), NULL, 'EXECUTE'
        FROM pg_proc
        WHERE pronamespace = CAST('semantic' AS regnamespace) AND (
            NOT prosecdef OR proname IN ('ask_worker_v1', 'await_query_v1', 'known_query_v1', 'request_query_v1')
        )
    $body$
    """,
    # The statements that give every role the rights in public_rights_v1 and take all others from every role but the
    # owner, whatever default privileges granted. The views of generations are left out: their rights are those of their
    # index. Owners of sources, and of functions that append marks, keep what they were granted. No table has row-level
    # security.
    """
    CREATE FUNCTION semantic.due_schema_rights_v1() RETURNS TABLE (step text, object text, statement text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off
    AS $body$
        WITH part (object, owner, acl, of_column) AS MATERIALIZED (
            SELECT 'SCHEMA semantic', nspowner, coalesce(nspacl, acldefault('n', nspowner)), CAST(NULL AS name)
            FROM pg_namespace WHERE nspname = 'semantic'
            UNION ALL
            SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || CAST(CAST(oid AS regclass) AS text),
                   relowner,
                   coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN CAST('s' AS "char") ELSE 'r' END, relowner)),
                   NULL
            FROM pg_class
            WHERE relnamespace = CAST('semantic' AS regnamespace) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
              AND relname !~ '^(chunks|receipts)_[0-9]+$'
            UNION ALL
            SELECT 'TABLE ' || CAST(CAST(attrelid AS regclass) AS text), relowner, attacl, attname
            FROM pg_class
            JOIN pg_attribute ON attrelid = pg_class.oid AND attacl IS NOT NULL AND NOT attisdropped
            WHERE relnamespace = CAST('semantic' AS regnamespace) AND relname !~ '^(chunks|receipts)_[0-9]+$'
            UNION ALL
            SELECT 'ROUTINE ' || CAST(CAST(oid AS regprocedure) AS text), proowner,
                   coalesce(proacl, acldefault('f', proowner)), NULL
            FROM pg_proc WHERE pronamespace = CAST('semantic' AS regnamespace)
        ),
        wanted AS MATERIALIZED (SELECT *, coalesce(of_column, '') AS place FROM semantic.public_rights_v1()),
        present AS MATERIALIZED (
            SELECT object, coalesce(of_column, '') AS place, grantee, privilege_type AS privilege, is_grantable
            FROM part CROSS JOIN LATERAL aclexplode(acl)
            WHERE grantee <> owner AND grantee NOT IN (
                SELECT relowner FROM semantic.semantic_index JOIN pg_class ON pg_class.oid = source
                UNION ALL
                SELECT parts.owner FROM semantic.semantic_index CROSS JOIN LATERAL semantic.parts_v1(id) AS parts
                WHERE parts.kind = 'FUNCTION'
            )
        ),
        closed AS MATERIALIZED (
            SELECT object, grantee
            FROM present LEFT JOIN wanted USING (object, place, privilege)
            GROUP BY object, grantee
            HAVING bool_or(grantee <> 0 OR is_grantable OR wanted.object IS NULL)
        )
        SELECT 'close', object, format(
            'REVOKE ALL ON %s FROM %s CASCADE', object,
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(grantee AS regrole) AS text) END
        )
        FROM closed
        UNION ALL
        SELECT 'open', wanted.object, format(
            'GRANT %s%s ON %s TO PUBLIC', min(wanted.privilege),
            ' (' || string_agg(quote_ident(wanted.of_column), ', ') || ')', wanted.object
        )
        FROM wanted
        JOIN (SELECT DISTINCT object FROM part) AS there USING (object)
        LEFT JOIN present USING (object, place, privilege)
        LEFT JOIN closed ON closed.object = wanted.object AND closed.grantee = 0
        WHERE present.object IS NULL OR closed.object IS NOT NULL
        GROUP BY wanted.object
        UNION ALL
        -- an event trigger may enable it on every new table; without a policy, only the owner then sees rows
        SELECT 'open', 'TABLE ' || CAST(CAST(oid AS regclass) AS text), format(
            'ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', CAST(oid AS regclass)
        )
        FROM pg_class
        WHERE relnamespace = CAST('semantic' AS regnamespace) AND relkind = 'r'
          AND (relrowsecurity OR relforcerowsecurity)
        ORDER BY 1, 2, 3
    $body$
    """,
    """
    CREATE FUNCTION semantic.close_schema_v1() RETURNS SETOF text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        due record;
    BEGIN
        PERFORM pg_advisory_xact_lock(723628196, 0);
        FOR due IN SELECT * FROM semantic.due_schema_rights_v1() LOOP
            EXECUTE due.statement;
            RETURN NEXT due.statement;
        END LOOP;
    END
    $body$
    """,
)

# The role that upgrades may lack the right to create functions next to every table.
MAKE_ALL = """
    DO $body$
    DECLARE
        known record;
    BEGIN
        FOR known IN SELECT id, name FROM semantic.semantic_index LOOP
            BEGIN
                PERFORM semantic.make_search_v1(known.id);
            EXCEPTION WHEN insufficient_privilege OR duplicate_function THEN
                RAISE WARNING 'semantic index % has no search function: %', known.name, SQLERRM
                USING HINT = format('When that is fixed, run: SELECT semantic.make_search_v1(%s).', known.id);
            END;
        END LOOP;
    END
    $body$
"""


def upgrade() -> None:
    for statement in TABLES:
        op.execute(statement)
    extension = "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace"
    vector = op.get_bind().scalar(sa.text(f"{extension} WHERE extname = 'vector'"))
    for statement in (*FUNCTIONS, *SEARCH, *RIGHTS):
        op.execute(statement.replace("$vector", vector))
    op.execute("SELECT semantic.close_schema_v1()")
    op.execute(MAKE_ALL)


def downgrade() -> None:
    op.execute("SELECT semantic.unmake_search_v1(id) FROM semantic.semantic_index")
    op.execute("DROP PROCEDURE semantic.embed_query, semantic.embed_query_v1")
    op.execute("DROP FUNCTION semantic.close_schema_v1, semantic.due_schema_rights_v1, semantic.public_rights_v1")
    op.execute(
        "DROP FUNCTION semantic.unregister_index_v3, semantic.register_index_v3, semantic.refresh_key_v1, "
        "semantic.validate_key_v1, semantic.link_key_v1, semantic.unlink_key_v1, semantic.make_search_v1, "
        "semantic.unmake_search_v1, semantic.require_search_v1, semantic.search_v1, semantic.search_places_v1, "
        "semantic.given_keys_v1, semantic.require_keys_v1, "
        "semantic.key_v1, semantic.filled_v1, semantic.embed, semantic.embed_v1, semantic.generation_v1, "
        "semantic.ask_worker_v1, semantic.wait_seconds_v1, semantic.answer_queries_v1, semantic.require_answer_v1, "
        "semantic.await_query_v1, semantic.request_query_v1, semantic.known_query_v1, semantic.require_query_v1, "
        "semantic.text_hash_v1"
    )
    op.execute("DROP TABLE semantic.query_request, semantic.query_vector")
