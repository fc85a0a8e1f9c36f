FROM x
\