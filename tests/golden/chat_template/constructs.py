"""Small templates of our own, each around one construct of the language, and what they can read."""

VARIABLES = {
    "messages": [
        {"role": "system", "content": "  Be brief.\n"},
        {"role": "user", "content": "Grüße, 世界! it's \"2\" <b>"},
        {"role": "assistant", "content": "", "tool_calls": [
            {"type": "function", "id": "c1", "function": {"name": "add", "arguments": {"b": 2, "a": 1.5}}}]},
        {"role": "tool", "content": "3.5", "tool_call_id": "c1", "name": "add"},
    ],
    "tools": [{"type": "function", "function": {"name": "add", "description": "Adds.\nTwo.", "parameters": {
        "type": "object", "properties": {"a": {"type": "number"}, "items": {"type": "array", "items": {"type": "string"}}},
        "required": ["a"]}}}],
    "n": 7, "z": 0, "neg": -7, "f": 2.5, "t": True, "no": False, "nil": None,
    "s": "Hello World", "u": "straße ǆ Σίσυφος ﬁ", "empty": "", "blank": " \t\u00a0x\u2003\n",
    "l": [3, 1, 2], "words": ["b", "A", "a", "C"], "mixed": [1, "a", None, 2.5, True, [1], {"k": 1}],
    "d": {"b": 1, "a": 2, "C": 3}, "nested": {"a": {"b": {"c": 5}}, "list": [{"x": 1}, {"x": 2}]},
    "people": [{"name": "Bo", "age": 30, "city": "X"}, {"name": "al", "age": 25, "city": "y"},
               {"name": "Al", "age": 30, "city": "x"}, {"name": "Cy", "age": None}],
    "tree": [{"v": 1, "c": [{"v": 2, "c": [{"v": 3}]}, {"v": 4}]}, {"v": 5}],
    "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>",
}

GROUPS = {}


def rows():
    """Every construct once, in order."""
    seen = {}
    for group in GROUPS.values():
        for row in group:
            seen[row] = None
    return list(seen)


def expressions(text):
    """One row per line: `{{ line }}`."""
    return ["{{ " + line.strip() + " }}" for line in text.strip().splitlines() if line.strip()]


GROUPS["white space"] = [
    "  {% if true %}  \n a\n  {% endif %}\n b \n", "x\n  {%- if true -%}  \n a\n  {%- endif %}\n b\n\n",
    "{# note #}\n one {#- tight -#} two\n   {# own line #}\nthree\n", "a\n    {{ 'out' }}\n    {%+ if true %}kept{% endif +%}\nb",
    "{% for m in messages %}\n  {{ m.role }}\n{% endfor %}\nend\n", "a\r\nb\rc\n\n", "{% if true %}\r\nx\r\n{% endif %}\r\n",
    "x {%- raw %} {{ a }} {% endraw -%} y", "{% raw %}\n {{ not a tag }} {% nor this %}\n{% endraw %}\ndone",
    "a {% raw -%}  b  {%- endraw %} c", "   {% raw %}x{% endraw %}\n y", "{% raw %}{% raw %}{% endraw %}", "{% raw %}open",
    "a\n\t {% set x = 1 %}\n\n b", "a\u00a0{%- if t %}b{% endif -%}\u2003c", "{{ 1 -}}  \n  {{- 2 }}\n\n3", "{{- ' a ' -}} b", "{{ 1 }}\n{{ 2 }}\n",
    "{#+ x +#}\na", "a {#- x #} b", "a\n{#- x -#}\nb", "{# a {# b #} c", "{#", "{# x", "{%- set a = 1 -%}\n\n{%- set b = 2 -%}\n{{ a }}{{ b }}",
    "\n\n{% if t %}\n\n{{ 1 }}\n\n{% endif %}\n\n", "{% if t %}a{% endif %}\n\nb", "a{% if t %}\n{% endif %}b", " {% if t %} a {% endif %} ",
    "{%if t%}a{%endif%}", "{{1}}{{n}}", "{%\nif\nt\n%}a{%\nendif\n%}", "{% set x = 'a\r\nb' %}{{ x|length }}{{ x }}", "  {{ 1 }}", "a\n  {#x#}  b\n",
    "{% if t %}:{% endif %}", "{% if t: %}a{% endif %}", "}}", "%}", "#}", "{ { } }", "{{ '{{' }}{{ '}}' }}{{ '%}' }}", "{", "a{", "{{'a'}}}",
    "{% for x in l -%}\n  {{ x }}\n{%- endfor %}", "a  {%+ if t +%}  \n b{%+ endif +%}\n", "x{% raw +%}y{% endraw %}", "{%- endraw %}",
]
GROUPS["literals"] = expressions(r"""
1
0
00
007
1_000
0x1F
0X_ff
0b101
0o17
0b12
0xg
1__0
1_
123456789012345678
9223372036854775807
-9223372036854775808 + 1
9223372036854775807 + 1
12345678901234567890
1.5
1.
.5
1e3
1E-3
1.5e+10
1e16
1e15
123456789.123456789
0.1
1e-5
1e-4
0.1 + 0.2
1e22
1e400
-0.0
1_0.2_5
1.5.real
true
True
false
none
None
none is none
'a' 'b' "c"
'it''s'
"double \" quote"
'single \' quote'
'tab\tnew\nline\r.'
'\a\b\f\v' | length
'\0' | length
'\101\60'
'\777'
'\8'
'\x41\x7a'
'\x4'
'\xg1'
'\u2581\u00e9'
'\u12'
'\U0001F600'
'\U00110000'
'\ud83d'
'\N{BULLET}\N{greek small letter alpha}'
'\N{nope}'
'\N'
'\q\ \/'
'\é\世'
'\\n'
'a\
b'
[1, 'a', none, true, 1.0, [], {}, ()]
[1, 2,]
[]
[,]
(1, 2)
(1,)
()
(1)
((1,),)
1, 2
1,
{'k': 'v', 'n': [1], 1: 2, none: 3, (1, 2): 4, 1.5: 5}
{'a': 1, 'a': 2, 'b': 3}
{1: 'a', true: 'b', 1.0: 'c'}
{'a': 1,}
{}
{'a'}
{'a': }
{[1]: 2}
{{'a': 1}: 2}
{n: s}['7']
{n: s}[7]
'é世' | length
'\'"'
['\'', '"', '\'"', '\\', '\n\t\r\0\x7f\x85\xa0\u2028', 'é世']
@
a$b
a!b
'open
1 +
(1
1 ) 
[1
{1
x y
é
naïve is defined
_x is defined
__x is defined
""")
GROUPS["operators"] = expressions("""
7 // 2
-7 // 2
7 % 3
-7 % 3
7 % -3
-7.5 % 2
7.5 // 2
-7.5 // 2
7 / 2
6 / 2
1 / 0
1 // 0
1 % 0
1.0 / 0
1.5 % 0.0
2 ** 10
2 ** -1
2 ** 3 ** 2
-2 ** 2
2 ** 0.5
0 ** -1
(-8) ** 0.5
2 ** 62
2 ** 64
10 ** 20
2 * 3 + 4
2 + 3 * 4
10 - 2 - 3
1 - -1
- - 1
+1
+true
-true
+'a'
-'a'
-nil
true + true
true * 5
1.5 + 1
1 + 1.0
'a' + 'b'
'a' + 1
1 + 'a'
'ab' * 2
2 * 'ab'
'ab' * 0
'ab' * -1
'ab' * 1.5
[1] * 2
2 * (1, 2)
[1] + [2]
[1] + (2,)
(1,) + (2, 3)
{} + {}
none + 1
missing + 1
1 + missing
missing * 2
-missing
missing ~ 'x'
1 ~ 'x' ~ 2.0 ~ none ~ true ~ [1]
1 ~ 2 + 3
1 + 2 ~ 3
'a' ~ 'b' * 2
1 == 1.0
1 == true
'1' == 1
none == none
none == false
missing == missing
missing == none
missing != 1
[1, 2] == [1, 2]
[1, 2] == (1, 2)
(1, 2) == (1, 2)
{'a': 1, 'b': 2} == {'b': 2, 'a': 1}
[1, 2] < [1, 3]
(1,) < (1, 0)
[1, 'a'] < [1, 2]
'a' < 'b'
'a' < 1
1 < 2.5
none < 1
missing < 1
1 < missing
'Z' < 'a'
'é' > 'z'
'ﬁ' < '😀'
1 < 2 < 3
1 < 3 < 2
3 > 2 > 1 > 0
1 == 1 != 2
1 in [1, 2]
3 not in [1, 2]
'x' in 'axb'
'' in 'a'
1 in 'a'
none in 'a'
'k' in {'k': 1}
1 in {1.0: 2}
[1] in [[1]]
[1] in {1: 2}
1 in range(3)
1.0 in range(3)
1 in 5
1 in none
1 in missing
missing in [1]
'a' in d.keys()
2 in d.values()
('a', 2) in d.items()
not true
not not 1
not missing
not []
not ''
not 0.0
not (0,)
1 and 2
0 and 2
1 or 2
0 or ''
'' or none
missing or 'else'
missing and 1
not true or false and true
not 1 == 2
1 if true else 2
1 if false
(1 if false) is defined
(1 if false).x
1 if true else 2 if false else 3
1 if (2 if false else 0) else 3
'a' if n > 5 else 'b'
1 is number and 2 is number
not 1 is string
1 is not string
- 1 | abs
-1 | abs
-1.5 | abs | string
(-1) | abs
2 * 3 | string
'a' ~ 'b' | upper
'a' + 'b' | upper
n is divisibleby 7 and t
1.5 == 1.5000
9007199254740993 == 9007199254740992.0
9007199254740993 > 9007199254740992.0
1e308 * 10
1e308 * 10 - 1e308 * 10
(1e308 * 10) | int
1 <= 1
2 >= 3
[3] >= [2, 9]
'nan' | float == 'nan' | float
'nan' | float < 1
1 + 2 | string
(1 + 2) | string
5 % 3 * 2
5 // 2 ** 2
1 and
or 1
1 < > 2
1 not 2
9223372036854775807 * 2
-9223372036854775807 - 2
3 * 1.1
7 // 2.0
-1 // 3
-1 % 3
5.0 // -2
5.5 % -2
0.0 % -1
""")
GROUPS["access"] = expressions("""
messages[0].role
messages[0]['role']
messages[-1].content
messages[99] is defined
messages[99].role
messages[0].nothing is undefined
messages[0].nothing.more
messages[0]['nothing']['more']
missing.attribute
missing['item']
missing[0]
missing()
nested.a.b.c
nested['a']['b'].c
nested.list.1.x
nested.list[0].x
l.0
l.5 is defined
l['0'] is defined
l[true]
l[1.0] is defined
l[none] is defined
'abc'[0]
'abc'[-1]
'abc'[5] is defined
'é世a'[1]
5[0] is defined
none.x is defined
none.x
none[0] is defined
n.x is defined
n.real
f.imag
t.real
(3).numerator
d.items is callable
d.items
d.keys() | list
d['items'] is defined
tools[0].function.parameters.properties.items
tools[0].function.parameters.properties['items']['type']
tools[0].function.parameters.properties.items()
tools[0].function.parameters.properties['items'].items()
tools[0].function.parameters.properties.a.type
d.get('a')
d.get('zz')
d.get('zz', 'g')
d.get(key='a')
d.get([1])
d.get()
d.get('a', 'b', 'c')
d.copy() == d
d.pop('a')
d.update({}) is defined
d.update is defined
d.setdefault('a', 1)
l.append(4)
l.append is defined
l.sort is defined
l.index(1)
l.index(9)
l.count(3)
l.copy()
(1, 2, 1).count(1)
(1, 2, 1).index(2)
(1, 2).copy is defined
l.__class__ is defined
l.__class__
''.__class__.__mro__
d.__len__ is defined
s.__nope__ is defined
d._x is defined
l[1:]
l[:2]
l[::2]
l[::-1]
l[-2:]
l[5:]
l[:-5]
l[1:1]
l[2:0:-1]
l[::0]
l[1:'a']
l[1.5:]
l[none:2]
l[true:]
s[1:5]
s[::-1]
s[-5:]
'é世a'[1:]
'é世a'[::-1]
(1, 2, 3)[1:]
(1, 2, 3)[::-1]
d[1:2]
n[1:]
missing[1:]
none[1:]
range(10)[2:5]
range(10)[::3] | list
range(10)[-1]
range(10)[20] is defined
range(0, 10, 3)
range(3)
range(5, 0, -2) | list
range(0)
range(1, 2, 0)
range()
range(1, 2, 3, 4)
range('a')
range(1.5)
range(true)
range(100000) | length
range(100001)
range(-1000000, 0) | length
range(3) == range(3)
range(0) == range(2, 2)
range(3).start
range(3).step
range(3).index(2)
range(3) | first
l[1, 2] is defined
l[1:2, 3] is defined
l[]
l[:]
l[::]
l[1:2:3:4]
d.a.b.c is defined
d.a.b is defined
s.upper is callable
s.upper.x is defined
s.nope is defined
s.nope()
(s.upper)()
[s.upper][0]()
messages[0].role.upper()
messages[0]['content'].strip()
messages[messages | length - 1].role
messages[n - 7].role
d['a' ~ '']
d[missing] is defined
d[[1]] is defined
d.values() | list
d.items() | list
d.keys()
d.values()
d.items()
d.keys() | length
d.keys()[0] is defined
d.keys()[0:1]
d.keys() == d.keys()
d.keys() + [1]
d.fromkeys([1, 2], 0)
true.x is defined
(1).bit_length()
(255).bit_count()
(2.0).is_integer()
(2.5).is_integer()
2.5.is_integer()
1.bit_length()
1 .bit_length()
messages.0.role
nested.list.0.x
""")
GROUPS["string methods"] = expressions(r"""
s.upper()
s.lower()
s.swapcase()
s.title()
s.capitalize()
s.casefold()
u.upper()
u.lower()
u.title()
u.capitalize()
u.swapcase()
u.casefold()
'ΑΣ ΑΣΑ Σ'.lower()
'ŉ İ ı'.upper()
'İI'.lower()
"it's o'neil x1y".title()
'ǆ ß ﬁ'.title()
'ßa'.capitalize()
'ÉCOLE'.capitalize()
s.upper(1)
blank.strip() | length
' a '.strip()
'xxaxx'.strip('x')
'xyaxy'.strip('yx')
'a'.strip('')
' a '.strip(none)
'a'.strip(1)
'a'.strip(chars='a')
' a '.lstrip() ~ '|'
' a '.rstrip() ~ '|'
'héh'.strip('é')
'éaé'.strip('é')
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
'a,b,,c'.split(',', maxsplit=2)
'a,b'.split(sep=',')
'a,b'.split(sep=',', x=1)
' a  b '.split()
' a  b  c '.split(none, 1)
' a  b  c '.split(none, 0)
' a b c '.split(maxsplit=1)
''.split()
''.split(',')
'a'.split('')
'a'.split(1)
'a,b,c'.rsplit(',', 1)
'a b  c '.rsplit(none, 1)
'aaa'.rsplit('aa', 1)
'a--b--c'.rsplit('--')
'x</think>y'.split('</think>')[-1]
'a\nb\r\nc\rd\x0be\x85f\u2028g'.splitlines()
'a\n\nb\n'.splitlines(true)
'a\nb'.splitlines(keepends=false)
'abcabc'.find('c')
'abcabc'.find('c', 3)
'abcabc'.find('c', 0, 2)
'abcabc'.find('')
'abc'.find('', 9)
'é世a'.find('a')
'abcabc'.rfind('a')
'abcabc'.rfind('a', 0, -3)
'abcabc'.rfind('')
'abc'.find('z')
'abc'.index('b')
'abc'.index('z')
'abcabc'.rindex('b')
'aaa'.count('a')
'aaaa'.count('aa')
'abc'.count('')
'abc'.count('b', 2)
'prefix'.startswith('pre')
'prefix'.startswith(('x', 'p'))
'prefix'.startswith(['p'])
'prefix'.startswith('fix', 3)
'prefix'.startswith('')
'prefix'.startswith('', 9)
'prefix'.endswith('fix')
'prefix'.endswith(('a', 'x'))
'prefix'.endswith('ref', 0, 4)
'prefix'.startswith()
'prefix'.startswith(1)
'abab'.replace('a', 'x')
'abab'.replace('a', 'x', 1)
'abab'.replace('', '-')
'ab'.replace('', '-', 2)
'abab'.replace('a', 'x', 0)
'abab'.replace('a', 'x', -1)
'a'.replace('a')
'a'.replace('a', 1)
'a'.replace('a', 'b', count=1)
'a'.replace(old='a', new='b')
','.join(['p', 'q'])
','.join('abc')
','.join([1])
','.join([])
','.join({'a': 1})
','.join(d.keys())
','.join(messages | map(attribute='role'))
','.join(1)
'a=b=c'.partition('=')
'a=b=c'.rpartition('=')
'abc'.partition('=')
'abc'.rpartition('=')
'abc'.partition('')
'TestHook'.removeprefix('Test')
'TestHook'.removesuffix('Hook')
'a'.removeprefix('ab')
'ab'.center(7) ~ '|'
'ab'.center(6, '*')
'abc'.center(6, '*')
'ab'.center(1)
'ab'.center(5, '')
'ab'.ljust(5, '.')
'ab'.rjust(5, '.')
'ab'.rjust(5, 'é')
'ab'.rjust(width=5)
'42'.zfill(5)
'-42'.zfill(5)
'+4'.zfill(1)
'a\tb\t\tc'.expandtabs()
'a\tb'.expandtabs(4)
'a\tb\nc\td'.expandtabs(tabsize=3)
'a\tb'.expandtabs(0)
'abc'.isalpha()
'ab1'.isalpha()
'é世'.isalpha()
''.isalpha()
'12'.isdigit()
'²'.isdigit()
'²'.isdecimal()
'½'.isnumeric()
'½'.isdigit()
'٣'.isdecimal()
'ab1'.isalnum()
'a b'.isalnum()
' \t'.isspace()
''.isspace()
'ABC1'.isupper()
'Abc'.isupper()
'1'.isupper()
'abc'.islower()
'aǅ'.islower()
'Abc Def'.istitle()
'ABc'.istitle()
"It's".istitle()
'abc'.isascii()
'é'.isascii()
''.isascii()
'a\n'.isprintable()
'é '.isprintable()
''.isprintable()
'ab_1'.isidentifier()
'1a'.isidentifier()
'é'.isidentifier()
'{} {}'.format(1, 'a')
'{1} {0}'.format(1, 'a')
'{a} {b!r} {c!s:>5}|'.format(a=1, b='x', c='y')
'{:>5}|{:<5}|{:^5}|{:*^6}'.format('a', 'b', 'c', 'd')
'{:5}|{:5}|'.format('a', 1)
'{:05d} {:+d} {: d} {:x} {:#x} {:X} {:o} {:b} {:#b}'.format(42, 1, 2, 255, 255, 255, 8, 5, 5)
'{:,} {:_} {:,.2f}'.format(1234567, 1234567, 1234567.891)
'{:.2f} {:.3e} {:.3g} {:g} {:%} {:.1%}'.format(3.14159, 1234.5, 1234.5, 0.0001, 0.25, 0.255)
'{:08.3f}|{:>8.2f}|{:<8.1f}|{:+.1f}'.format(-3.14159, 2.5, 2.25, 1.0)
'{}'.format(1.0)
'{:.3}'.format('abcdef')
'{:.3}'.format(1.23456)
'{:10.3}|'.format('abcdef')
'{:=6}'.format(-5)
'{:d}'.format('a')
'{:s}'.format(1)
'{:z}'.format(1)
'{0[a]} {0[b]} {1.role}'.format(d, messages[0])
'{0[0]} {0[1]}'.format(l)
'{x[y]}'.format(x={'y': 2})
'{0.__class__}'.format('a')
'{{}} {}'.format(1)
'{'.format(1)
'}'.format(1)
'{} {0}'.format(1)
'{}'.format()
'{a}'.format()
'{!r} {!s} {!a}'.format('é', 'é', 'é')
'{!x}'.format(1)
'{:{}}|'.format('a', 4)
'{:{w}}|'.format('a', w=4)
'{}'.format(none)
'{:5}'.format(none)
'{}'.format([1, 'a'])
'{a}'.format_map({'a': 1})
'{:c}'.format(65)
'{:^+7.2f}|'.format(3.14159)
'%s %r %d %i' % ('a', 'b', 3, 4.9)
'%5s|%-5s|%05d|%+d|% d' % ('a', 'b', 42, 1, 2)
'%x %X %#x %o' % (255, 255, 255, 8)
'%.2f %e %g %G' % (3.14159, 12345.678, 0.00001, 1e20)
'%s' % 'a'
'%s' % [1, 2]
'%s' % none
'%s' % (1,)
'%s %s' % (1,)
'%s' % (1, 2)
'%(a)s %(b)d' % {'a': 'x', 'b': 2}
'%(a)s' % {'b': 1}
'%%' % ()
'%d' % 'a'
'%*d|%.*f' % (5, 42, 2, 3.14159)
'%c%c' % (65, 'b')
'%z' % 1
'100%' % ()
'a' % ()
'a' % 1
'%.3s|%5.1s|' % ('abcdef', 'xyz')
'%r' % 'it\'s'
'%a' % 'é'
'%s' % missing
'%5d|%-5d|%05.1f' % (3, 4, 2.25)
'%i%%' % 50
'abc'.encode()
'abc'.nope()
s.split.x is defined
'a'.join
''.join(['a', 'b']) ~ s.__len__ is defined
""")
GROUPS["filters"] = expressions(r"""
-5 | abs
'a' | abs
true | abs
-2.5 | abs
missing | abs
d | attr('a')
s | attr('upper')
d | attr('keys') is callable
l | batch(2) | list
[1, 2, 3] | batch(2, 'x') | list
[1, 2, 3, 4] | batch(2, 'x') | list
l | batch(0) | list
l | batch | list
'abcde' | batch(2) | list
l | batch(linecount=2, fill_with=0) | list
l | batch(2)
'hello wORLD' | capitalize
'éCOLE' | capitalize
5 | capitalize
'ab' | center(6) ~ '|'
'ab' | center(width=7) ~ '|'
'ab' | center | length
missing | default('x')
none | default('x')
'' | default('x')
'' | default('x', true)
0 | d('x', boolean=true)
missing | default
missing | default(default_value='y')
missing | d(1) + 1
missing | default('x', false, 1)
missing | default(nope=1)
d | dictsort
d | dictsort(true)
d | dictsort(by='value')
d | dictsort(reverse=true)
d | dictsort(false, 'value', true)
d | dictsort(by='x')
l | dictsort
{'b': 1, 2: 3} | dictsort
'<a & "b" \'c\'>' | e
'<a>' | escape | escape
('<a>' | escape) + '<b>'
'<b>' + ('<a>' | e)
('<a>' | e) ~ '<b>'
'<a>' | e | forceescape
'<a>' | forceescape
none | e
5 | e
['<'] | e
('<a>' | safe) + '<b>'
'<a>' | safe | upper + '<b>'
('<a>' | safe) * 2
('%s' | safe) % '<a>'
('a' | safe).join(['<', '>'])
'<b>' | safe | replace('b', '<')
('<b>' | safe).replace('b', '<i>')
('<a>' | safe) | string is escaped
('<a>' | safe) | trim is escaped
('<a>' | safe) | lower is escaped
('a b' | safe) | title is escaped
['<' | safe, '<'] | join
('<' | safe) == '<'
('<' | safe) | tojson
[('<' | safe)]
'<' | safe is escaped
'<' is escaped
('<a>' | safe)[0] + '<'
('a,<' | safe).split(',')[1] + '<'
'%s and %s' | format(1, 'b')
'%(a)s' | format(a=3)
'%s' | format
'%s' | format(1, a=2)
'%s %s' | format(1)
1000 | filesizeformat
1 | filesizeformat
0 | filesizeformat
999 | filesizeformat
1500 | filesizeformat
1500000 | filesizeformat
1024 | filesizeformat(true)
1536 | filesizeformat(binary=true)
1e30 | filesizeformat
'2000' | filesizeformat
'x' | filesizeformat
l | first
[] | first
[] | first is defined
'abc' | first
d | first
missing | first is defined
5 | first
(l | map('string')) | first
l | last
[] | last is defined
'abc' | last
d | last
l | map('string') | last
range(3) | last
missing | last is defined
'1.5' | float
'x' | float
'x' | float(2)
'x' | float(default=3.5)
' 1_0.5 ' | float
'inf' | float
'-Infinity' | float
'1e3' | float
5 | float
none | float
missing | float
[] | float('a')
'0x1' | float
people | groupby('age') | length
[{'a': 1, 'b': 2}, {'a': 1, 'b': 3}, {'a': 0, 'b': 4}] | groupby('a')
people[:3] | groupby('city') | map('first') | list
people[:3] | groupby('city', case_sensitive=true) | map(attribute='grouper') | list
people | groupby('city', default='q') | map(attribute='list') | map('length') | list
people[:3] | groupby('name') | map(attribute=0) | list
people[:3] | groupby
'a\nb\n\nc' | indent
'a\nb' | indent(2)
'a\nb' | indent(2, true)
'a\n\nb' | indent(2, first=true, blank=true)
'a\nb\n' | indent(width='> ')
'a\r\nb' | indent(1)
'' | indent(3, true) ~ '|'
5 | indent
'a\nb' | indent(-1)
'12' | int
'3.7' | int
'-3.7' | int
'x' | int
'x' | int(5)
'x' | int(default=6)
'ff' | int(0, 16)
'0xff' | int(0, 16)
'0xff' | int(0, 0)
'0b11' | int(0, 2)
'0o17' | int(0, 8)
'017' | int(0, 0)
'z' | int(base=36)
' 42 ' | int
'1_000' | int
'1__0' | int
'_1' | int
'٣٤' | int
3.99 | int
-3.99 | int
true | int
none | int
none | int(9)
[] | int
missing | int
'inf' | int
'nan' | int
'1e3' | int
('inf' | float) | int
'12345678901234567890' | int
'' | int
'+5' | int
'- 5' | int
d | items | list
missing | items | list
l | items | list
none | items | list
d | items
[1, 'a', none] | join
[1, 'a', none] | join(', ')
'abc' | join('-')
people | join(', ', attribute='name')
people | join(attribute='age', d='/')
[1, 2] | join(0)
d | join(',')
missing | join
5 | join
[] | join(',')
[[1], 'b'] | join(';')
[1] | join(',', 'x', 3)
messages | map(attribute='role') | join(', ')
l | length
'é世' | length
d | count
none | length
5 | length
missing | length
range(5) | length
(l | map('string')) | length
(1, 2) | length
l | length(1)
'abc' | list
d | list
none | list
missing | list
5 | list
range(3) | list
(1, 2) | list
'ÀB' | lower
5 | lower
['A'] | lower
words | map('upper') | list
words | map('upper')
words | map('replace', 'a', 'b') | list
words | map('nope') | list
people | map(attribute='name') | list
people | map(attribute='city') | list
people | map(attribute='city', default='?') | list
people | map(attribute='city', default='?', x=1) | list
people | map(attribute='name.0') | list
[[1, 2], [3, 4]] | map(attribute=1) | list
nested.list | map(attribute='x') | sum
people | map('name') | list
l | map | list
none | map('upper') | list
missing | map('upper') | list
5 | map('upper') | list
words | map('default', 'x') | list
[none, 1] | map('default', 'x', true) | list
words | map('join', ',') | list
['1', 'x'] | map('int', default=7) | list
l | map('map') | list
l | max
l | min
words | max
words | max(true)
words | min(case_sensitive=true)
[] | max is defined
people[:3] | max(attribute='age')
people | min(attribute='age')
[1, 'a'] | max
'hello' | max
mixed | min
d | pprint
'a' | pprint
[3, 'x'] | pprint
[1, 2, 3, 4] | reject('odd') | list
[0, 1, '', none, 'a'] | select | list
[0, 1, '', none, 'a'] | reject | list
[1, 2, 3] | select('gt', 1) | list
[1, 2, 3] | select('>', 1) | list
[1, 2, 3] | select('equalto', 2) | list
[1, 2, 3] | select('in', [1, 3]) | list
[1, 'a'] | select('string') | list
[1, 2] | select('nope') | list
[1, 2] | select('gt') | list
none | select('odd') | list
l | select('odd')
messages | selectattr('role', 'equalto', 'user') | list | length
messages | selectattr('role', '==', 'user') | map(attribute='content') | list
messages | selectattr('tool_calls') | list | length
messages | selectattr('tool_calls', 'defined') | list | length
messages | rejectattr('tool_calls') | map(attribute='role') | list
messages | rejectattr('role', 'in', ['user', 'system']) | map(attribute='role') | list
messages | selectattr | list
none | selectattr('x') | list
missing | selectattr('x') | list
people | selectattr('age', 'none') | map(attribute='name') | list
people | selectattr('age', 'gt', 26) | list
people[:3] | selectattr('age', 'gt', 26) | map(attribute='name') | list
nested.list | selectattr('x', 'even') | list
[[0, 1], [1, 0]] | selectattr(0) | list
[[0, 1], [1, 0]] | selectattr('1') | list
messages | selectattr('role', 'equalto', 'system') | first
messages | selectattr('role', 'equalto', 'nobody') | first is defined
'yes' if messages | selectattr('role', 'equalto', 'nobody') else 'no'
'abab' | replace('a', 'x')
'abab' | replace('a', 'x', 1)
'abab' | replace('a', 'x', count=1)
'abab' | replace(old='a', new='y')
12321 | replace(2, 0)
none | replace('N', 'n')
missing | replace('a', 'b')
'ab' | replace('', '-')
'ab' | replace('a')
'ab' | replace('a', 'b', none)
'abab' | replace('a', 'x', -2)
'abc' | reverse
l | reverse | list
l | reverse
d | reverse | list
range(3) | reverse | list
5 | reverse
(l | map('string')) | reverse
missing | reverse | list
'é世' | reverse
42.55 | round
42.55 | round(1)
42.55 | round(1, 'floor')
42.55 | round(1, 'ceil')
42.55 | round(precision=1, method='common')
42.5 | round
43.5 | round
-2.5 | round
2.675 | round(2)
42 | round
42 | round(2)
42 | round(0, 'floor')
1234 | round(-2)
1250 | round(-2)
1350 | round(-2)
1234.5 | round(-2)
42.1 | round(0, 'ceil')
42.1 | round(0, 'x')
'a' | round
true | round
1e300 | round(2)
0.125 | round(2)
l | slice(2) | list
[1, 2, 3, 4, 5] | slice(3) | list
[1, 2, 3, 4, 5] | slice(3, 'x') | list
[1] | slice(3, 0) | list
l | slice(0) | list
l | slice('a') | list
l | sort
l | sort(true)
l | sort(reverse=true)
words | sort
words | sort(case_sensitive=true)
words | sort(true, true)
people | sort(attribute='name') | map(attribute='name') | list
people | sort(attribute='age') | list
people[:3] | sort(attribute='age,name') | map(attribute='name') | list
people[:3] | sort(attribute='age', reverse=true) | map(attribute='name') | list
[[2, 'b'], [1, 'c'], [2, 'a']] | sort
[[2, 'b'], [1, 'c'], [2, 'a']] | sort(attribute=1)
[1, 'a'] | sort
[none, none] | sort
[none, 1] | sort
[{}, {}] | sort
[{'a': 1}, {'a': 2}] | sort
d | sort
'hello' | sort | join
none | sort
[2.5, 1, true] | sort
[(1, 2), (1, 1)] | sort
['é', 'z', 'a'] | sort
[3, 1] | sort(nope=1)
5 | string + 'x'
none | string
missing | string
[1] | string
'<b>a</b>  <!-- <i> -->x\n y' | striptags
'a &lt;b&gt; &amp; &#39;' | striptags
'<p' | striptags
5 | striptags
l | sum
[] | sum
[1.5, 2] | sum
people[:3] | sum(attribute='age')
people[:3] | sum('age', 10)
[[1], [2]] | sum(start=[])
['a', 'b'] | sum
['a'] | sum(start='')
people | sum(attribute='age')
l | sum(start=1.5)
'hello world foo-bar (x y' | title
"it's o'neil" | title
'ÉCOLE ßx' | title
'a{b[c<d' | title
5 | title
d | tojson
l | tojson
'é"\\/<>&\n\x00\x7f\u2028😀' | tojson
'é😀\x7f' | tojson(ensure_ascii=true)
d | tojson(indent=2)
nested | tojson(2)
nested | tojson(indent=1, sort_keys=true)
{'b': [1, {}], 'a': []} | tojson(indent=4)
{'b': 1, 'a': 2} | tojson(sort_keys=true)
{'b': 1, 'a': [1, 2]} | tojson(separators=(',', ':'))
{'b': 1, 'a': [1, 2]} | tojson(separators=[' , ', ' : '], indent=2)
l | tojson(separators=',')
l | tojson(separators='ab')
l | tojson(indent=0)
l | tojson(indent='--')
l | tojson(indent=none)
l | tojson(indent=true)
l | tojson(indent=-1)
l | tojson(true, 2)
[1.0, 1e100, 1.5, true, none, (1, 2)] | tojson
['inf' | float, 'nan' | float, -('inf' | float)] | tojson
{1: 2, true: 3, none: 4, 1.5: 5} | tojson
{(1, 2): 3} | tojson
{1: 1, 'a': 2} | tojson(sort_keys=true)
missing | tojson
range(3) | tojson
d.items() | tojson
(l | map('string')) | tojson
messages[2] | tojson
tools | tojson(indent=4)
[] | tojson(indent=2)
{} | tojson(indent=2)
l | tojson(nope=1)
' a ' | trim ~ '|'
'xax' | trim('x')
'xax' | trim(chars='x')
5 | trim
none | trim
missing | trim
blank | trim
'a' | trim(1)
'foo bar baz qux' | truncate(9)
'foo bar baz qux' | truncate(9, true)
'foo bar baz qux' | truncate(9, false, '..')
'foo bar baz qux' | truncate(9, leeway=0)
'foo bar baz qux' | truncate(11)
'foo bar baz qux' | truncate(11, false, '...', 0)
'foobarbazqux' | truncate(6, leeway=0)
'foo' | truncate(2)
'foo' | truncate(3, leeway=-1)
'é世界abcdef' | truncate(5, true, '…', 0)
5 | truncate
[1, 2, 1, 'a', 'A'] | unique | list
[1, 2, 1, 'a', 'A'] | unique(true) | list
people | unique(attribute='city') | map(attribute='name') | list
people | unique(attribute='age', case_sensitive=true) | map(attribute='name') | list
[[1], [1]] | unique | list
[1, true, 1.0, 'b', none, none] | unique | list
'abcab' | unique | join
[(1, 2), (1, 2)] | unique | list
l | unique
'ßé' | upper
none | upper
'a b/c?d=é&+' | urlencode
{'a b': 'c/d', 'e': 1} | urlencode
[['a', 'b'], ['c', 'd&']] | urlencode
5 | urlencode
none | urlencode
[1] | urlencode
'a b\tc-d_e f1' | wordcount
'' | wordcount
'é 世界' | wordcount
'foo bar baz qux' | wordwrap(7)
'foobarbazqux' | wordwrap(5)
'foobarbazqux ab' | wordwrap(5, false)
'foo bar\nbaz qux quux' | wordwrap(8)
'foo bar baz' | wordwrap(5, wrapstring='|')
'foo-bar-baz qux' | wordwrap(8)
'foo-bar-baz qux' | wordwrap(8, break_on_hyphens=false)
'foo -- bar--baz  end' | wordwrap(6)
'a b' | wordwrap(0)
'one\n\ntwo' | wordwrap(5)
'foo    bar' | wordwrap(4)
'super-cali-fragilistic' | wordwrap(7)
{'class': 'a b', 'id': none, 'x': '<', 'n': 5} | xmlattr
{'a': 1} | xmlattr(false)
{'a b': 1} | xmlattr
{} | xmlattr
{'a': missing} | xmlattr
l | xmlattr
s | nofilter
s | upper | lower | title
s | upper()
s | upper(1)
s | upper(x=1)
s | replace(*['l', 'L'])
s | replace(**{'old': 'l', 'new': 'L'})
l | join(*[','], **{})
s | first | upper
l | first + 1
(l | first) + 1
l | sort | first | string + 'x'
messages | map('attr', 'role') | list
l | map('abs') | map('string') | join
l | map('multiply') | list
""")
GROUPS["tests"] = expressions("""
n is defined
missing is defined
missing is undefined
missing.x is defined
n is not defined
3 is odd
4 is even
3.0 is odd
'a' is odd
4 is divisibleby 2
4 is divisibleby(3)
4 is divisibleby 0
4 is divisibleby(num=2)
none is none
missing is none
true is boolean
1 is boolean
true is true
1 is true
false is false
0 is false
1 is integer
true is integer
1.0 is integer
1.0 is float
1 is float
1 is number
true is number
'1' is number
'a' is string
1 is string
d is mapping
l is mapping
namespace() is mapping
l is sequence
d is sequence
'a' is sequence
(1, 2) is sequence
range(2) is sequence
none is sequence
missing is sequence
d.keys() is sequence
(l | map('abs')) is sequence
l is iterable
'a' is iterable
5 is iterable
missing is iterable
(l | map('abs')) is iterable
d.items() is iterable
range is callable
s.upper is callable
5 is callable
missing is callable
namespace() is callable
joiner() is callable
'abc' is lower
'ABC' is upper
'aB' is lower
5 is lower
none is sameas none
true is sameas true
l is sameas l
[] is sameas []
'abc' is in 'xabcx'
1 is in [1, 2]
1 is in 5
'upper' is filter
'nope' is filter
'odd' is test
'nope' is test
5 is filter
1 is eq 1
1 is == 1
1 is ==(1)
1 is equalto(1.0)
1 is ne 2
1 is not eq 2
2 is gt 1
2 is greaterthan(1)
2 is ge 2
1 is lt 2
1 is lessthan 2
1 is le 1
'a' is gt 1
1 is eq
1 is eq(1, 2)
1 is eq(b=1)
1 is odd(1)
n is string or n is number
n is string and n is number
not n is string
n is not string and t
n is odd is defined
1 is nope
1 is
1 is in [1] and 2 is in [2]
'a' is string | upper
(1 is odd) | string
-1 is odd
-1 is number
n is divisibleby 7 or no
messages[0].content is string and messages[0].content | length > 3
d.a is defined and d.a == 2
d.zz is not defined
1 is eq n - 6
x is defined and x
x.y is defined if x is defined else 'no'
""")
GROUPS["statements"] = [
    "{% if n %}a{% elif no %}b{% else %}c{% endif %}", "{% if no %}a{% elif t %}b{% elif n %}d{% else %}c{% endif %}", "{% if no %}a{% endif %}|",
    "{% if 1, 2 %}a{% endif %}", "{% if %}a{% endif %}", "{% if t %}", "{% endif %}", "{% else %}", "{% elif t %}", "{% if t %}{% else %}{% else %}{% endif %}",
    "{% if t %}{% endfor %}", "{% for x in l %}{{ x }}{% else %}none{% endfor %}", "{% for x in [] %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in missing %}{{ x }}{% else %}none{% endfor %}", "{% for x in none %}{% endfor %}", "{% for x in 5 %}{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4]] %}{{ a }}-{{ b }};{% endfor %}", "{% for a, b in d.items() %}{{ a }}={{ b }};{% endfor %}",
    "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% for a, in [(1,)] %}{{ a }}{% endfor %}", "{% for a, b in ['xy'] %}{{ a }}{{ b }}{% endfor %}", "{% for x in d %}{{ x }}{% endfor %}", "{% for c in 'é世' %}[{{ c }}]{% endfor %}",
    "{% for x in l if x > 1 %}{{ x }}{{ loop.index }}{{ loop.length }}{{ loop.last }};{% endfor %}", "{% for x in l if x > 9 %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in l if loop.first %}{% endfor %}", "{% for y in [1, 2] %}{% for x in l if loop.first %}{{ x }}{% endfor %};{% endfor %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in l | sort %}{{ x }}{% endfor %}", "{% for x in (l if no else [9]) %}{{ x }}{% endfor %}",
    "{% for x in l if no else [9] %}{{ x }}{% endfor %}", "{% for x in range(3) %}{{ x }}{% endfor %}", "{% for x in l | map('string') %}{{ x }}{{ loop.length }}{{ loop.revindex }}{{ loop.last }};{% endfor %}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}", "{% for x in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem.x }}{% endfor %}", "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in l %}{{ loop.cycle() }}{% endfor %}",
    "{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }};{% endfor %}", "{% for x in [1, 1] %}{{ loop.changed() }}{{ loop.changed(x, 1) }};{% endfor %}", "{% for x in l %}{{ loop.nope is defined }}{% endfor %}",
    "{% for x in l %}{% for y in 'ab' %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}", "{% for x in l %}{% set outer = loop %}{% for y in 'ab' %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for x in l recursive %}{{ x }}{% endfor %}", "{% for n in tree recursive %}{{ n.v }}({{ loop(n.c) if n.c is defined }}){% endfor %}",
    "{% for n in tree recursive %}{{ loop.depth }}{{ loop.depth0 }}{{ n.v }}{% if n.c is defined %}[{{ loop(n.c) }}]{% endif %}{% endfor %}", "{% for x in l %}{{ loop(l) }}{% endfor %}",
    "{% for n in tree recursive %}{{ n.v }}{{ loop(n.c | default([])) }}{% else %}-{% endfor %}", "{% for x in l %}{{ x }}{% break %}{% endfor %}", "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% else %}E{% endfor %}", "{% for x in l %}{% continue %}{% else %}E{% endfor %}", "{% for x in l %}{% break %}{% else %}E{% endfor %}",
    "{% break %}", "{% continue %}", "{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{% for y in l %}{% continue %}{% endfor %}{{ x }}{% endfor %}",
    "{% for x in l %}{% set y %}{% break %}{% endset %}{{ x }}{% endfor %}", "{% for loop in l %}{% endfor %}", "{% for x in l %}{% set loop = 1 %}{% endfor %}", "{% set loop = 1 %}{{ loop }}", "{{ loop is defined }}",
    "{% for true in l %}{% endfor %}", "{% for x.y in l %}{% endfor %}", "{% for x in %}{% endfor %}", "{% for in l %}{% endfor %}", "{% for x l %}{% endfor %}", "{% for x in l %}", "{% for x in l %}{% endif %}",
    # Scopes.
    "{% set a = 0 %}{% for x in l %}{% set a = a + 1 %}{{ a }}{% endfor %}={{ a }}", "{% for x in l %}{% set q = x %}{% endfor %}{{ q is defined }}", "{% for x in l %}{% endfor %}{{ x is defined }}",
    "{% set x = 'o' %}{% for x in l %}{{ x }}{% endfor %}{{ x }}", "{% for x in l %}{{ q is defined }}{% set q = x %}{% endfor %}", "{% set q = 5 %}{% for x in l %}{{ q }}{% set q = x %}{% endfor %}{{ q }}",
    "{% if t %}{% set w = 1 %}{% endif %}{{ w }}", "{% if no %}{% set w = 1 %}{% endif %}{{ w is defined }}", "{% if no %}{% set n = 1 %}{% endif %}{{ n }}", "{% if t %}{% set n = 1 %}{% endif %}{{ n }}",
    "{% if no %}{% set n = 1 %}{% elif t %}{% set n = 2 %}{% else %}{% set n = 3 %}{% endif %}{{ n }}", "{{ n }}{% set n = 1 %}{{ n }}", "{% for x in [1] %}{% if t %}{% set n = 99 %}{% endif %}{{ n }}{% endfor %}{{ n }}",
    "{% for x in [1, 2] %}{% if x == 1 %}{% set k = 5 %}{% endif %}{{ k is defined }}{% endfor %}", "{% set a, b = 1, 'two' %}{{ a }}{{ b }}", "{% set (a, b) = (1, 2) %}{{ b }}{{ a }}", "{% set a, (b, c) = 1, [2, 3] %}{{ a }}{{ b }}{{ c }}",
    "{% set a = 1, 2 %}{{ a }}", "{% set a, b = 1 %}", "{% set a, b = [1, 2, 3] %}", "{% set true = 1 %}", "{% set 1 = 1 %}", "{% set a.b = 1 %}", "{% set a[0] = 1 %}", "{% set a %}", "{% set %}", "{% set a = %}",
    "{% set d.x = 1 %}", "{% set missing.x = 1 %}", "{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}", "{% set ns = namespace(a=1, b='c') %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns['b'] }}", "{% set ns = namespace([('a', 1)]) %}{{ ns.a }}", "{% set ns = namespace(1) %}", "{% set ns = namespace(f=false) %}{% for x in l %}{% set ns.f = x %}{% endfor %}{{ ns.f }}",
    "{% set ns = namespace(a=1) %}{{ ns }}", "{% set ns = namespace(a=namespace(b=2)) %}{{ ns.a.b }}", "{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a + ns.b }}", "{% set ns = namespace(l=[]) %}{% for x in l %}{% set ns.l = ns.l + [x] %}{% endfor %}{{ ns.l }}",
    "{% set ns = namespace(items=1) %}{{ ns.items }}", "{% set ns.x = 1 %}", "{% set ns = namespace() %}{{ ns.nope.x }}", "{% set ns = namespace() %}{% set ns.x %}block{% endset %}{{ ns.x }}", "{{ namespace(a=1) == namespace(a=1) }}",
    "{% set text %}block of {{ messages | length }}{% endset %}({{ text }})", "{% set text | upper | trim %} a {% endset %}({{ text }})", "{% set text | replace('a', 'b') %}aaa{% endset %}{{ text }}", "{% set text | replace('a', n) %}aaa{% endset %}{{ text }}{{ n }}",
    "{% set text %}{% set inner = 1 %}{{ inner }}{% endset %}{{ text }}{{ inner is defined }}", "{% set a, b %}x{% endset %}", "{% set a, b %}xy{% endset %}{{ b }}{{ a }}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "{% with a = 1 %}{% with a = a + 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}{% endwith %}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}", "{% with n = n + 1 %}{{ n }}{% endwith %}{{ n }}",
    "{% with a, b = (1, 2) %}{% endwith %}", "{% with (a, b) = (1, 2) %}{{ a }}{{ b }}{% endwith %}", "{% with a %}{% endwith %}", "{% with a = 1 %}",
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter upper | replace('A', 'x') %}aba{% endfilter %}", "{% filter nope %}a{% endfilter %}", "{% filter indent(2) %}\na\nb{% endfilter %}", "{% filter upper %}{% set fq = 1 %}{% endfilter %}{{ fq is defined }}", "{% filter %}a{% endfilter %}",
    # Macros.
    "{% macro m(a, b='d', c=none) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m() }}{{ m(1) }}{{ m(1, 2) }}{{ m(c=3, a=1) }}{{ m(1, b=m(2)) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}", "{% set a = 'outer' %}{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m('in') }}", "{% macro m(b=a, a=1) %}{{ b is defined }}{% endmacro %}{{ m() }}", "{% set q = 5 %}{% macro m(b=q) %}{{ b }}{% endmacro %}{% set q = 6 %}{{ m() }}",
    "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m(a, a) %}{% endmacro %}", "{% macro m(true) %}{% endmacro %}", "{% macro m %}{% endmacro %}", "{% macro m() %}", "{% macro 1() %}{% endmacro %}", "{% macro m(a,) %}{{ a }}{% endmacro %}{{ m(1) }}",
    "{% macro m(a) %}{{ a is defined }}{{ a }}{% endmacro %}{{ m() }}", "{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}{{ m() }}", "{% macro m(a) %}{{ a }}|{{ varargs | join(',') }}|{{ kwargs.z }}{% endmacro %}{{ m(1, 2, 3, z=4) }}",
    "{% macro m(varargs) %}{{ varargs }}{% endmacro %}{{ m(1) }}", "{% macro m(kwargs=2) %}{{ kwargs }}{% endmacro %}{{ m() }}", "{% macro m() %}{{ n }}{% endmacro %}{{ m() }}", "{% macro m() %}{{ later }}{% endmacro %}{% set later = 1 %}{{ m() }}", "{% macro m() %}{{ n }}{% endmacro %}{{ m() }}{% set n = 1 %}{{ m() }}",
    "{% macro m() %}{% set inside = 1 %}{% endmacro %}{{ m() }}{{ inside is defined }}", "{% set c = 1 %}{% macro m() %}{% set c = c + 1 %}{{ c }}{% endmacro %}{{ m() }}{{ m() }}{{ c }}", "{% for x in l %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}{{ m is defined }}", "{% for x in l %}{{ m(x) }}{% endfor %}{% macro m(x) %}{{ x }}{% endmacro %}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% macro m(a, b=1) %}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.catch_varargs }}{{ m.caller }}", "{% macro m() %}{% endmacro %}{{ m }}",
    "{% macro m() %}x{% endmacro %}{{ m() | upper }}{{ m() ~ m() }}{{ m() is string }}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(*[1]) }}{{ m(**{'x': 2}) }}{{ m(*[3], **{}) }}", "{% macro m(x) %}{% endmacro %}{{ m(**{1: 2}) }}", "{% macro m(x) %}{% endmacro %}{{ m(x=1, **{'x': 2}) }}", "{% macro m(x, y) %}{{ x }}{{ y }}{% endmacro %}{{ m(y=1, *[2]) }}", "{{ f(1, *[2], 3) }}", "{{ dict(x=1, x=2) }}", "{{ dict(a=1, 2) }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}hi{% endcall %}", "{% macro m(l) %}{% for x in l %}{{ caller(x) }};{% endfor %}{% endmacro %}{% call(x) m([1, 2]) %}<{{ x }}>{% endcall %}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m() %}x{% endmacro %}{% call m() %}hi{% endcall %}",
    "{% macro m() %}{{ caller('a', 'b') }}{% endmacro %}{% call(x, y='z') m() %}{{ x }}{{ y }}{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{% call(x='dflt') m() %}{{ x }}{% endcall %}", "{% set v = 1 %}{% macro m() %}{% set v = 2 %}{{ caller() }}{% endmacro %}{% call m() %}{{ v }}{% endcall %}", "{% call 5 %}{% endcall %}", "{% call m %}{% endcall %}", "{% macro m(caller) %}{{ caller }}{% endmacro %}{{ m(1) }}", "{% macro m(caller=none) %}{{ caller }}{% endmacro %}{{ m() }}", "{% call missing() %}{% endcall %}",
    "{% macro outer() %}{% macro inner() %}i{% endmacro %}{{ inner() }}{{ caller() }}{% endmacro %}{% call outer() %}c{% endcall %}", "{% macro m(a) %}{{ a }}{% endmacro %}{% set f = m %}{{ f(1) }}", "{% set ns = namespace() %}{% macro m(a) %}{{ a }}{% endmacro %}{% set ns.f = m %}{{ ns.f(2) }}", "{% set up = s.upper %}{{ up() }}", "{{ 5() }}", "{{ 'a'() }}", "{{ s() }}", "{{ d() }}",
    # The rest.
    "{% generation %}said{% endgeneration %}", "{% generation %}{% set gq = 1 %}{{ gq }}{% endgeneration %}{{ gq is defined }}", "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}\n{% endfor %}", "{% for m in messages %}{% generation %}{% break %}{% endgeneration %}{% endfor %}", "{% generation %}",
    "{% print 1, 'a', n %}", "{% print %}", "{% block a %}x{{ n }}{% endblock %}", "{% block a %}{% endblock a %}", "{% block a %}{% endblock %}{% block a %}{% endblock %}", "{% for x in l %}{% block a %}{{ x is defined }}{% endblock %}{% endfor %}", "{% set q = 4 %}{% block a %}{{ q }}{% endblock %}", "{% block a %}{% set bq = 1 %}{% endblock %}{{ bq is defined }}",
    "{% autoescape false %}<{{ '<' }}{% endautoescape %}", "{% unknown %}", "{% do x %}", "{% include 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% extends 'x' %}", "{% trans %}x{% endtrans %}", "{% if no %}{% include 'x' %}{% endif %}ok", "{% if no %}{{ x | nofilter }}{% endif %}ok", "{{ 1 if t else x | nofilter }}", "{% if no %}{{ 1 is notest }}{% endif %}ok", "{% for x in [] %}{{ x | nofilter }}{% endfor %}", "{% if t %}{{ x | nofilter }}{% endif %}", "{% if no %}{% for x in l %}{{ x | nofilter }}{% endfor %}{% endif %}ok",
    "{% if no %}{{ raise_exception('x') }}{% endif %}ok", "{{ raise_exception('no') }}", "{{ raise_exception() }}", "{{ raise_exception(1, 2) }}", "{{ strftime_now('%d %b %Y %H:%M:%S %f %j %A %B %y %I %p %% %-d') }}", "{{ strftime_now() }}", "{{ strftime_now('') }}", "{{ strftime_now('a') }}", "{{ strftime_now(1) }}",
    "{{ dict(a=1, b='c') }}", "{{ dict({'a': 1}, b=2) }}", "{{ dict([('a', 1)]) }}", "{{ dict([1]) }}", "{{ dict() }}", "{{ dict(1) }}", "{{ dict([['a', 1], ['a', 2]]) }}", "{{ dict({'a': 1}, a=2) }}", "{% set j = joiner() %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}", "{% set j = joiner('|') %}{{ j() }}a{{ j() }}b", "{% set j = joiner(sep='-') %}{{ j() }}{{ j() }}", "{{ joiner(1, 2) }}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set _ = c.reset() %}{{ c.next() }}", "{% set c = cycler() %}", "{% set c = cycler(1, 2) %}{{ c.items }}{{ c.pos }}", "{{ cycler('a').nope is defined }}", "{{ range is defined }}{{ nope is defined }}", "{{ lipsum is defined }}", "{% set range = 5 %}{{ range }}",
    # Iterators are used up.
    "{% set g = l | map('string') %}{{ g | list }}{{ g | list }}", "{% set g = l | select('odd') %}{{ g | first }}{{ g | list }}", "{% set g = l | map('string') %}{% if g %}yes{% endif %}{% for x in g %}{{ x }}{% endfor %}{% for x in g %}{{ x }}{% endfor %}", "{% set g = [1, 0] | map('batch', 2) %}ok", "{% set g = words | map('nope') %}ok", "{% set g = ['a', 1] | map('abs') %}ok", "{% set g = [1, 'a'] | map('abs') %}{{ g | first }}",
    "{% set g = l | unique %}{{ 3 in g }}{{ g | list }}", "{% set g = l | reverse %}{{ g | list }}{{ g | list }}", "{% for x in l | batch(2) %}{{ x }}{% endfor %}", "{% for a, b in [1, 2, 3, 4] | batch(2) %}{{ a }}-{{ b }};{% endfor %}", "{% for g in people[:3] | groupby('age') %}{{ g.grouper }}:{% for p in g.list %}{{ p.name }}{% endfor %};{% endfor %}", "{% for age, list in people[:3] | groupby('age') %}{{ age }}{{ list | length }};{% endfor %}", "{{ (people[:3] | groupby('age'))[0].grouper }}", "{{ (people[:3] | groupby('age'))[0][0] }}",
    "{% set ns = namespace(stop=false) %}{% for x in l if not ns.stop %}{{ x }}{% set ns.stop = true %}{% endfor %}", "{% for x in l if x %}{{ loop.index }}{{ loop.nextitem }}{{ loop.length }};{% endfor %}",
    "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}", "{{ messages }}", "{{ messages[1:2] }}", "{{ [missing] }}", "{{ {'a': missing} }}", "{{ [none, true, 1.0, 'é\n'] }}", "{{ [range(2), d.keys()] }}", "{{ [s.upper] }}", "{{ range }}", "{{ s.upper }}", "{% for x in l %}{{ loop }}{% endfor %}", "{{ joiner() }}", "{{ (1, (2,)) }}", "{{ '' }}{{ none }}{{ [] }}",
    "{{ x }}\n\n{{ y }}\n", "{{ a.b.c.d }}", "{% if x.y.z %}{% endif %}", "{% if x and x.y.z %}a{% else %}b{% endif %}", "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first | trim | upper }}", "{%- for m in messages %}\n{{- '<|' ~ m['role'] ~ '|>\\n' }}\n{%- if m.tool_calls is defined and m.tool_calls %}\n  {%- for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}\n{%- endif %}\n{{- m.content | trim + '</s>' }}\n{%- endfor %}",
]

# What jinja2 renders and we refuse: integers beyond 64 bits, complex numbers, bytes, and oddities
# that only constant folding lets through.
REFUSED = set(expressions("""
-9223372036854775808 + 1
9223372036854775807 + 1
12345678901234567890
(-8) ** 0.5
2 ** 64
10 ** 20
9223372036854775807 * 2
-9223372036854775807 - 2
'12345678901234567890' | int
none[1:]
'{:c}'.format(65)
'abc'.encode()
""")) | {"{% for x in l %}{{ loop }}{% endfor %}"}
