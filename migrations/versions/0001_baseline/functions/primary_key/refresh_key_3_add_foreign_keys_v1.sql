-- The third step: adds the missing foreign keys, which the last step validates.
CREATE FUNCTION semantic.refresh_key_3_add_foreign_keys_v1(known_index integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    PERFORM semantic.lock_tables_v1('SHARE ROW EXCLUSIVE', VARIADIC semantic.relations_in_lock_order_v1(known_index, NULL));
    PERFORM semantic.add_foreign_keys_v1(known_index);
    PERFORM semantic.restart_backfill_v1(known_index, 'its foreign keys were dropped', true)
    FROM semantic.generation  -- a row may have moved to another tenant meanwhile, which leaves no mark
    WHERE index_id = known_index AND role = 'live' AND spec ->> 'policy_column' IS NOT NULL
      AND NOT spec -> 'key' @> jsonb_build_array(jsonb_build_object('name', spec ->> 'policy_column'));
END
$body$;
