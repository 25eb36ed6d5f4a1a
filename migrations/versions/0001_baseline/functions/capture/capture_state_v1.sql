-- The current state of the source and of every partition, to compare with `semantic.captured`.
CREATE FUNCTION semantic.capture_state_v1(known_index integer)
RETURNS TABLE (relation regclass, triggers text, columns jsonb, file oid)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT CAST(pg_class.oid AS regclass),
           coalesce((
               SELECT string_agg(concat_ws(' ', tgname, tgenabled, pg_trigger.xmin), ', ' ORDER BY tgname)
               FROM pg_trigger
               WHERE tgrelid = pg_class.oid AND tgname IN (
                   SELECT semantic_index.name || '_capture_' || event
                   FROM unnest('{insert,update,delete,truncate,replica,parent}'::text[]) AS event
               )
           ), ''),
           coalesce((
               SELECT jsonb_object_agg(
                   attname, concat_ws(
                       ' ', attnum, atttypid, atttypmod, pg_get_expr(adbin, adrelid),
                       CASE WHEN atttypid >= 16384 THEN semantic.enum_labels_v1(atttypid) END
                   )
               )
               FROM pg_attribute
               LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum AND attgenerated = 'v'
               WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped AND attname IN (
                   SELECT jsonb_array_elements_text(spec -> 'columns')
                   FROM semantic.generation
                   WHERE index_id = known_index
                   UNION
                   SELECT jsonb_array_elements(spec -> 'key') ->> 'name'
                   FROM semantic.generation
                   WHERE index_id = known_index
               )
           ), '{}'),
           relfilenode
    FROM semantic.semantic_index
    CROSS JOIN LATERAL semantic.partition_tree_v1(semantic_index.source) AS part
    JOIN pg_class ON pg_class.oid = part.relid
    WHERE semantic_index.id = known_index
$body$;
