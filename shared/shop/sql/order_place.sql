-- Places an order once for each key: stock, order, lines, key and answer, or nothing of it, in one statement.
-- The frame (known, gate, record and the last SELECT) is that of shared/kit/idempotency.py.
-- $1 scope, $2 key, $3 fingerprint of the request, $4 hours to keep the answer,
-- $5 subject (whose order it is), $6 customer_id, $7 product ids as text[], $8 quantities as text[], by line
--
-- What must not happen is a constraint's to forbid: stock below zero is a check violation, a line without a product has
-- no price. Rows are locked in the order of their ids (LockRows runs above the sort), so that two orders for the same
-- products wait for each other and do not deadlock; the update then computes from the newest version of each row.
WITH known AS MATERIALIZED (
    SELECT fingerprint, status, resource, body, expires_at > now() AS live
      FROM idempotency_keys WHERE scope = $1 AND key = $2
), gate AS MATERIALIZED (
    SELECT CASE WHEN EXISTS (SELECT FROM known) THEN 'known'
                WHEN pg_try_advisory_xact_lock(hashtextextended($2, hashtextextended($1, 0))) THEN 'open'
                ELSE 'busy' END AS state
), wanted AS MATERIALIZED (
    SELECT w.product_id, w.quantity, w.line_no
      FROM gate, unnest($7::text[]::bigint[], $8::text[]::int[]) WITH ORDINALITY AS w (product_id, quantity, line_no)
     WHERE gate.state = 'open'
), held AS MATERIALIZED (
    SELECT p.id FROM products p WHERE p.id IN (SELECT product_id FROM wanted) ORDER BY p.id FOR NO KEY UPDATE
), taken AS (
    UPDATE products p SET stock = p.stock - w.quantity, version = p.version + 1, updated_at = now()
      FROM held h JOIN wanted w ON w.product_id = h.id
     WHERE p.id = h.id
    RETURNING p.id AS product_id, p.name, p.price_cents AS unit_price_cents, p.version, w.quantity, w.line_no
), placed AS (
    INSERT INTO orders (subject, customer_id, status, total_cents)
    SELECT $5::text, $6::bigint, 'placed', sum(unit_price_cents * quantity)::bigint FROM taken HAVING count(*) > 0
    RETURNING id, customer_id, status, total_cents, created_at
), lines AS (
    INSERT INTO order_lines (order_id, line_no, product_id, quantity, unit_price_cents)
    SELECT placed.id, w.line_no, w.product_id, w.quantity, t.unit_price_cents
      FROM placed, wanted w LEFT JOIN taken t USING (line_no)
), answer AS (
    SELECT 201 AS status, placed.id::text AS resource, json_build_object(
               'id', placed.id, 'customer_id', placed.customer_id, 'status', placed.status,
               'total_cents', placed.total_cents, 'created_at', placed.created_at, 'lines', coalesce((
                   SELECT json_agg(json_build_object('line_no', line_no, 'product_id', product_id, 'name', name,
                                                     'quantity', quantity, 'unit_price_cents', unit_price_cents)
                                   ORDER BY line_no) FROM taken), '[]'))::text AS body
      FROM placed
), record AS (
    INSERT INTO idempotency_keys (scope, key, fingerprint, status, resource, body, expires_at)
    SELECT $1, $2, $3::bytea, status, resource, body, now() + $4 * interval '1 hour' FROM answer
)
SELECT gate.state, known.live, known.fingerprint, coalesce(known.status, answer.status) AS status,
       coalesce(known.resource, answer.resource) AS resource, coalesce(known.body, answer.body) AS body,
       NULL AS note
  FROM gate LEFT JOIN known ON true LEFT JOIN answer ON true
