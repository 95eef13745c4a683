"""Templates of our own, each around one construct of the language that chat templates use."""
TEMPLATES = [
    # White space control.
    "  {% if true %}  \n a\n  {% endif %}\n b \n",
    "x\n  {%- if true -%}  \n a\n  {%- endif %}\n b\n\n",
    "{# note #}\n one {#- tight -#} two\n   {# own line #}\nthree\n",
    "a\n    {{ 'out' }}\n    {%+ if true %}kept{% endif +%}\nb",
    "{% for m in messages %}\n  {{ m.role }}\n{% endfor %}\nend\n",
    "{% raw %}{{ not a tag }} {% nor this %}{% endraw %} done",
    # Loops.
    "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.last }}{{ loop.index0 }}{{ loop.revindex }};{% endfor %}",
    "{% for m in messages if m.role == 'user' %}[{{ loop.index }}{{ m['content'] | trim }}]{% else %}none{% endfor %}",
    "{% for m in messages[1:] %}{{ m.role }}{% else %}only one{% endfor %}{% for m in messages[::-1] %}<{{ m.role }}>{% endfor %}",
    "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{% if loop.index == 4 %}{% break %}{% endif %}{{ m.role }} {% endfor %}",
    "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined else '-' }}>{{ loop.nextitem.role if loop.nextitem is defined else '-' }} {% endfor %}",
    "{% for k, v in {'a': 1, 'b': [2, 3]}.items() %}{{ k }}={{ v }};{% endfor %}{% for k in {'x': 1} %}{{ k }}{% endfor %}",
    # Scopes.
    "{% set n = 0 %}{% for m in messages %}{% set n = n + 1 %}{{ n }}{% endfor %}={{ n }}",
    "{% set ns = namespace(found=false, count=0) %}{% for m in messages %}{% set ns.count = ns.count + 1 %}{% if m.role == 'user' %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }} {{ ns.count }}",
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ system }}|{{ rest | length }}",
    "{% set text %}block of {{ messages | length }}{% endset %}({{ text }}){% set a, b = 1, 'two' %}{{ a }}{{ b }}",
    # Macros.
    "{% macro turn(role, content='nothing', mark=true) %}<{{ role }}>{{ content }}{{ '!' if mark }}{% endmacro %}{{ turn('u') }}{{ turn('a', 'b', mark=false) }}{% for m in messages %}{{ turn(m.role, content=m.content) }}{% endfor %}",
    # Expressions.
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 * 3 + 4 }} {{ 1.5 + 1 }} {{ 'ab' * 2 }} {{ 1 ~ 'x' ~ 2.0 }}",
    "{{ true }} {{ none }} {{ [1, 'a', none, true, 1.0] }} {{ {'k': 'v', 'n': [1]} }} {{ (1, 2) | length }}",
    "{{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ 2 >= 2 }} {{ 'x' in 'axb' }} {{ 3 not in [1, 2] }} {{ 'k' in {'k': 1} }} {{ not true or false and true }}",
    "{{ missing }}|{{ missing is defined }}|{{ missing | default('fallback') }}|{{ '' | default('empty', true) }}|{{ missing or 'else' }}",
    "{{ messages[0].nothing is undefined }} {{ messages[0].get('nothing', 'g') }} {{ messages[0].get('nothing') }} {{ messages[-1]['role'] }}",
    "{{ 'yes' if messages | length > 1 else 'no' }} {{ 'a' if false }}|{{ (1 if true else 2) + 3 }} {{ messages[99] is defined }}",
    # Strings.
    "{{ messages[0].content.strip() }}|{{ messages[0].content.lstrip() }}|{{ messages[0].content.rstrip('\\n') }}|{{ messages[0].content | trim }}",
    "{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a-b-c'.split('-', 1) }} {{ 'x</think>y'.split('</think>')[-1] }} {{ ','.join(['p', 'q']) }}",
    "{{ 'prefix'.startswith('pre') }} {{ 'prefix'.endswith('fix') }} {{ 'a b' | replace(' ', '_') }} {{ 'abc'.replace('b', '') }} {{ 'abc'.upper() }} {{ 'Abc' | lower }}",
    "{{ 'hello world'.title() }} {{ 'hello' | capitalize }} {{ 'abc'[1] }} {{ 'abc'[:2] }} {{ 'abcdef'[::2] }} {{ 'añb' | length }} {{ 'abc' | reverse }}",
    "{{ 'it''s' }} {{ \"double \\\" quote\" }} {{ 'tab\\tnew\\nline' }} {{ 'a' 'b' }}",
    # Filters and tests.
    "{{ messages | map(attribute='role') | list }} {{ messages | map(attribute='role') | join(', ') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "{{ messages | rejectattr('role', '==', 'user') | list | length if false else '' }}{{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | unique | list }}",
    "{{ messages | tojson }}|{{ {'a': [1, {'b': none}], 'c': 'é\\n'} | tojson(indent=2) }}|{{ messages[0] | tojson(indent=4) }}",
    "{{ messages | first | tojson }} {{ (messages | last).role }} {{ [3, 1, 2] | sort }} {{ ['b', 'a'] | sort | join }} {{ '12' | int + 1 }} {{ 3 | string + 'x' }}",
    "{{ 'a' is string }} {{ 1 is number }} {{ messages is iterable }} {{ messages[0] is mapping }} {{ 'a' is sequence }} {{ none is none }} {{ true is boolean }} {{ 4 is divisibleby 2 }} {{ 3 is odd }} {{ 1 is not string }} {{ 2 is even }}",
    "{{ messages[0].content is string and messages[0].content | length > 3 }} {{ tools is none }} {{ tools is defined }} {{ tools is not none }}",
    # Functions.
    "{{ range(3) | list }} {{ range(1, 7, 2) | list }} {% for i in range(2) %}{{ i }}{% endfor %} {{ dict(a=1, b='c') }} {{ strftime_now('%d %b %Y') }}",
    "{% if messages | length > 2 %}{{ raise_exception('Too long: ' ~ messages | length) }}{% endif %}ok",
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{{ m.role }}{% endfor %}",
    # Refusals.
    "{{ missing.attribute }}", "{{ missing['item'] }}", "{{ missing + 'x' }}", "{{ 'a' + 1 }}", "{{ 1 / 0 }}", "{{ missing() }}",
    "{% for x in none %}{% endfor %}", "{{ messages | nofilter }}", "{% unknown %}", "{% if true %}", "{{ 'open", "{{ (1 }}", "{% endif %}",
    "{% generation %}said{% endgeneration %}", "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}",
]
