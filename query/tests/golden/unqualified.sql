SELECT count(*) AS hours FROM charges WHERE meter LIKE 'g%' AND amount IS NOT NULL
