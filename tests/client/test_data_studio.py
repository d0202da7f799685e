"""Datastores and datasets as scripts use them, against a real studio with real runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from studio.bootstrap.testing import Postgres
from tests.client.conftest import SOURCE, Script
from tests.gear.servers import missing
from tests.stack import Stack, free_port

pytestmark = pytest.mark.services

TITANIC = (
    "PassengerId,Survived,Pclass,Name,Age\n"
    '1,0,3,"Braund, Mr. Owen",22\n2,1,1,"Cumings, Mrs. John",38\n3,1,3,"Heikkinen, Miss. Laina",26\n4,0,3,Moran,\n'
)

# The pages' listings as they stand; only the addresses are of this machine.
LOAD = """
import azureml.dataprep as dprep

dataflow_public = dprep.read_csv(
    path='{web}/automl/UCI_Adult_train.csv')

dataflow_with_token = dprep.read_csv(
    path='{web}/testfiles/read_csv_duplicate_headers.csv?st=2018-06-15T23%3A01%3A42Z&se=2019-06-16T23%3A01%3A00Z&sp=r&sv=2017-04-17&sr=b&sig=ugQQCmeC2eBamm6ynM7wnI%2BI3TTDTM6z9RPKj4a%2FU6g%3D')
"""
SIGN_IN = """
from azureml.core.authentication import ServicePrincipalAuthentication
auth_sp = ServicePrincipalAuthentication(
    tenant_id='<Azure Tenant ID>',
    service_principal_id='<Azure AD Application ID>',
    service_principal_password='<Azure AD Application Key>'
)
"""
CREDENTIALS = """
from azure.common.credentials import UserPassCredentials
credentials = UserPassCredentials('user@domain.com', 'my_smart_password')
"""
WORKSPACE = """
from azureml.core import Workspace

ws = Workspace.from_config()
"""
INPUTS = """
from azureml.core import Dataset

datastore = ws.get_default_datastore()
file_name = 'Titanic.csv'

titanic_tabular_dataset = Dataset.Tabular.from_delimited_files(path=[(datastore, file_name)])
step1_input1 = titanic_tabular_dataset.as_named_input("tabular_input")

# Example only: it wouldn't make sense to duplicate input data, especially one as tabular and the other as files
titanic_file_dataset = Dataset.File.from_files(path=[(datastore, file_name)])
step1_input2 = titanic_file_dataset.as_named_input("file_input").as_hdfs()
"""
OUTPUT = """
from azureml.data import HDFSOutputDatasetConfig
step1_output = HDFSOutputDatasetConfig(destination=(datastore,"test")).register_on_complete(name="registered_dataset")
"""
# The page's dataprep.py does this with Spark.
PREPARE = """
import argparse, os
parser = argparse.ArgumentParser()
parser.add_argument("--tabular_input")
parser.add_argument("--file_input")
parser.add_argument("--output_dir")
args = parser.parse_args()

import socket
def nowhere(*a, **k):
    raise OSError("no network")
connect, socket.socket.connect = socket.socket.connect, nowhere

from azureml.core import Run, Dataset
run_context = Run.get_context()
dataset = Dataset.get_by_id(run_context.experiment.workspace,id=args.tabular_input)
frame = dataset.to_pandas_dataframe()
print("ROWS", len(frame), list(frame.columns), run_context.input_datasets["tabular_input"].id == args.tabular_input)
assert os.environ["tabular_input"] == args.tabular_input
assert os.environ["AZUREML_DATAREFERENCE_file_input"] == args.file_input, os.environ

assert args.file_input.startswith("file://"), args.file_input
text = open(args.file_input[len("file://"):]).read()
print("FILE", len(text), run_context.input_datasets["file_input"].to_path())
out = args.output_dir[len("file://"):]
assert not os.path.exists(out)
os.makedirs(out)
open(os.path.join(out, "part-0.csv"), "w").write(text)
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("studio")) as found:
        yield found


@pytest.fixture(scope="module")
def token(stack: Stack) -> str:
    """An owner's token for workspace ``main``."""
    return stack.python(
        "from studio.accounts.models import User\n"
        "from studio.accounts.services import workspace_create\n"
        "from studio.accounts.tokens import token_create\n"
        "user = User.objects.create_user('ann', 'ann@example.test', 'correct-horse-battery')\n"
        "workspace_create(name='main', title='Main', user=user)\n"
        "print(token_create(user=user, name='tests')[1])"
    ).split()[-1]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A public web server on loopback with the files of the listings."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "automl").mkdir()
    (folder / "testfiles").mkdir()
    (folder / "automl" / "UCI_Adult_train.csv").write_text("age,workclass\n39,State-gov\n50,Private\n")
    (folder / "testfiles" / "read_csv_duplicate_headers.csv").write_text("a,b,a,a\n1,2,3,4\n5,6,7,8\n")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path, stack: Stack) -> Path:
    place = tmp_path / "project"
    (place / "code").mkdir(parents=True)
    config = {"subscription_id": "s", "resource_group": "g", "workspace_name": "main", "endpoint": stack.url}
    (place / "config.json").write_text(json.dumps(config))
    (place / "Titanic.csv").write_text(TITANIC)
    return place


@pytest.fixture
def user(script: Script, token: str, tmp_path: Path) -> Script:
    script.env["ATELIER_TOKEN"] = token
    script.env["ATELIER_CACHE"] = str(tmp_path / "cache")
    return script


def run(user: Script, folder: Path, *parts: str) -> str:
    (folder / "listing.py").write_text("".join(parts))
    return user("listing.py", cwd=folder, timeout=300).stdout


def found(out: str) -> Any:
    return json.loads(next(line for line in out.splitlines() if line.startswith("FOUND "))[6:])


def test_the_listings_of_spark_on_hdinsight(user: Script, folder: Path, web: str) -> None:
    out = run(
        user,
        folder,
        SIGN_IN,
        CREDENTIALS,
        LOAD.format(web=web),
        """
import json
print(dataflow_public.head(3))
frame = dataflow_with_token.to_pandas_dataframe()
left = dataflow_with_token.filter(dataflow_with_token['b'] > 2).keep_columns(['a_1']).take(5)
print('FOUND ' + json.dumps([list(frame.columns), frame.values.tolist(), left.to_pandas_dataframe().values.tolist(),
                             dataflow_public.row_count, type(credentials).__name__, repr(dataflow_with_token)]))
""",
    )
    columns, rows, left, count, kind, shown = found(out)
    assert columns == ["a", "b", "a_1", "a_2"]
    assert rows == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert (left, count, kind) == ([[7]], 2, "UserPassCredentials")
    assert "sig=" not in shown


def test_the_listings_of_the_synapse_step_as_a_run(user: Script, folder: Path) -> None:
    (folder / "code" / "dataprep.py").write_text(PREPARE)
    out = run(
        user,
        folder,
        WORKSPACE,
        """
ws.get_default_datastore().upload_files(['Titanic.csv'], show_progress=False)
""",
        INPUTS,
        OUTPUT,
        """
import json, sys
from azureml.core import Environment, Experiment, ScriptRunConfig
env = Environment('with-pandas')
env.python.user_managed_dependencies = True
env.python.interpreter_path = sys.executable
src = ScriptRunConfig(source_directory='code', script='dataprep.py', environment=env,
                      arguments=["--tabular_input", step1_input1,
                                 "--file_input", step1_input2,
                                 "--output_dir", step1_output])
run = Experiment(ws, 'prepare').submit(src)
run.wait_for_completion(show_output=True)
registered = Dataset.get_by_name(ws, "registered_dataset")
again = step1_output.as_input("step2_input").as_download()
(__import__('pathlib').Path('code') / 'train.py').write_text("import sys, os\\nprint('GOT', os.listdir(sys.argv[1]))")
second = Experiment(ws, 'prepare').submit(ScriptRunConfig('code', 'train.py', arguments=[again]))
second.wait_for_completion(show_output=True)
print('FOUND ' + json.dumps([registered.version, registered.to_path(), sorted(run.input_datasets),
    run.output_datasets[step1_output.name].id == registered.id, [i['dataset'] for i in run._load()['inputs']] and 1,
    len(run.get_details()['inputDatasets']), len(run.get_details()['outputDatasets']),
    second.input_datasets['step2_input'].id == registered.id]))
""",
    )
    assert "ROWS 4 ['PassengerId', 'Survived', 'Pclass', 'Name', 'Age'] True" in out
    assert f"FILE {len(TITANIC)} ['/Titanic.csv']" in out
    assert "GOT ['part-0.csv']" in out
    assert found(out) == [1, ["/part-0.csv"], ["file_input", "tabular_input"], True, 1, 2, 1, True]


def test_datastores_from_a_script(user: Script, folder: Path, tmp_path: Path, web: str) -> None:
    (tmp_path / "nfs" / "deep").mkdir(parents=True)
    (tmp_path / "nfs" / "deep" / "x.txt").write_text("x")
    (folder / "data" / "sub").mkdir(parents=True)
    (folder / "data" / "a.txt").write_text("a" * 100)
    (folder / "data" / "sub" / "b.txt").write_text("")
    out = run(
        user,
        folder,
        WORKSPACE,
        f"""
import json, os
from azureml.core import Datastore
from azureml.data.azure_storage_datastore import AzureBlobDatastore
from azureml.exceptions import UserErrorException
def refused(call):
    try:
        call()
    except UserErrorException as error:
        return str(error)
default = Datastore.get_default(ws)
place = default.upload('data', target_path='set/one', show_progress=False)
default.upload('data', target_path='set/one', show_progress=True)
count = default.download('back', prefix='set/one', show_progress=False)
nfs = Datastore.register_local(ws, 'nfs', {str(tmp_path / "nfs")!r})
again = Datastore.register_local(ws, 'nfs', {str(tmp_path / "nfs")!r})
other = refused(lambda: Datastore.register_local(ws, 'nfs', '/tmp'))
nfs.set_as_default()
names = [ws.get_default_datastore().name]
ws.set_default_datastore('workspaceblobstore')
names.append(ws.get_default_datastore().name)
http = Datastore.register_http(ws, 'pages', {web!r})
http.download('pages', prefix='automl', show_progress=False)
absent = refused(lambda: Datastore.get(ws, 'nothing'))
files = [entry['path'] for entry in nfs.files()]
share = refused(lambda: Datastore.register_azure_file_share(ws, 'f', 'share', 'account'))
nfs.unregister()
print('FOUND ' + json.dumps([isinstance(default, AzureBlobDatastore), str(place) != '', count,
    open('back/set/one/a.txt').read() == 'a' * 100, os.path.getsize('back/set/one/sub/b.txt'), type(nfs).__name__,
    type(http).__name__, names, files, sorted(ws.datastores), other, absent, share,
    os.path.exists('pages/automl/UCI_Adult_train.csv')]))
""",
    )
    assert "2 were there already" in out
    got = found(out)
    assert got[:6] == [True, True, 2, True, 0, "LocalDatastore"]
    assert got[6:9] == ["HttpDatastore", ["nfs", "workspaceblobstore"], ["deep/x.txt"]]
    assert got[9] == ["pages", "workspaceblobstore"]
    assert "already" in got[10] and "It has: nfs, pages, workspaceblobstore" in got[11] and "register_local" in got[12]
    assert got[13]


def test_a_dataset_and_its_versions(user: Script, folder: Path) -> None:
    out = run(
        user,
        folder,
        WORKSPACE,
        """
import json, os
import pandas as pd
from azureml.core import Dataset
from azureml.data import DataType
from azureml.exceptions import UserErrorException, ServiceException
def refused(call):
    try:
        call()
    except (UserErrorException, ServiceException) as error:
        return str(error)
store = ws.get_default_datastore()
store.upload_files(['Titanic.csv'], target_path='passengers', show_progress=False)
ds = Dataset.Tabular.from_delimited_files((store, 'passengers/*.csv'))
one = ds.register(ws, 'titanic', description='people', tags={'kind': 'small'})
same = ds.register(ws, 'titanic')
old = ds.filter(ds['Age'] > 25).keep_columns(['Name', 'Age'])
taken = refused(lambda: old.register(ws, 'titanic'))
two = old.register(ws, 'titanic', create_new_version=True)
two = two.add_tags({'old': 'yes'}).update(description='older')
latest = Dataset.get_by_name(ws, 'titanic')
first = Dataset.get_by_name(ws, 'titanic', version=1)
by_id = Dataset.get_by_id(ws, two.id)
typed = Dataset.Tabular.from_delimited_files((store, 'passengers/*.csv'), set_column_types={
    'Survived': DataType.to_bool(), 'Pclass': DataType.to_string()})
a, b = first.random_split(0.5, seed=3)
frame = pd.DataFrame({'x': [1, 2, 3], 't': pd.to_datetime(['2021-01-01', '2021-01-02', '2021-01-03'])})
made = Dataset.Tabular.register_pandas_dataframe(frame, (store, 'frames'), 'frame', show_progress=False)
stamped = made.with_timestamp_columns('t')
os.makedirs('up/x'); open('up/x/1.txt', 'w').write('one'); open('up/2.txt', 'w').write('two')
up = Dataset.File.upload_directory('up', (store, 'up'), show_progress=False)
with up.mount() as place:
    mounted = [os.path.join(place.mount_point, 'x', '1.txt')]
    text = open(mounted[0]).read()
paths = up.download('down')
none = refused(lambda: Dataset.get_by_name(ws, 'nobody'))
print('FOUND ' + json.dumps([
    one.version, same.version, taken, two.version, latest.version, latest.tags, latest.description,
    latest.to_pandas_dataframe().values.tolist(), len(first.to_pandas_dataframe()), by_id.name, by_id == two,
    [str(t) for t in typed.to_pandas_dataframe()[['Survived', 'Pclass']].iloc[0]], len(a.to_pandas_dataframe())
    + len(b.to_pandas_dataframe()), made.to_pandas_dataframe()['x'].sum().item(),
    stamped.time_after('2021-01-02', include_boundary=False).to_pandas_dataframe()['x'].tolist(), up.to_path(), text,
    sorted(os.path.relpath(p, 'down') for p in paths), none, sorted(ws.datasets), 'titanic' in ws.datasets]))
latest.unregister_all_versions()
print('LEFT', sorted(ws.datasets))
""",
    )
    got = found(out)
    assert got[:2] == [1, 1] and "create_new_version" in got[2]
    assert got[3:7] == [2, 2, {"old": "yes"}, "older"]
    assert got[7] == [["Cumings, Mrs. John", 38], ["Heikkinen, Miss. Laina", 26]]
    assert got[8:11] == [4, "titanic", True]
    assert got[11] == ["False", "3"]
    assert got[12:15] == [4, 6, [3]]
    assert got[15:18] == [["/2.txt", "/x/1.txt"], "one", ["2.txt", "x/1.txt"]]
    assert "nobody" in got[18] and got[20] and {"frame", "titanic"} <= set(got[19])
    assert "titanic" not in out.splitlines()[-1]


FLOW = """
import os, sys, json
from azureml.core import Run
run = Run.get_context()
folder, one, place, out, tab, table = sys.argv[1:7]
mounted = run.input_datasets['folder']
seen = {
    'folder': sorted(os.path.relpath(os.path.join(r, n), folder) for r, _d, names in os.walk(folder) for n in names),
    'same': os.path.samefile(mounted, folder) and os.environ['folder'] == folder,
    'names': mounted.to_path(), 'kept': [file.size for file in mounted.files()],
    'one': open(one).read(), 'place': sorted(os.listdir(place)), 'out': os.path.isdir(out),
    'fetched': os.path.basename(one), 'direct': len(run.input_datasets['direct'].download('got')),
    'id': run.input_datasets['direct'].id == os.environ['direct'],
    'variable': os.environ['MODEL_DIR'],
}
try:
    open(os.path.join(folder, 'x.txt'), 'w')
except OSError as error:
    seen['write'] = 'refused'
open(os.path.join(out, 'made.txt'), 'w').write('made')
open(os.path.join(tab, 'a.csv'), 'w').write('k;v\\n1;2\\n')
open(table, 'w').write('as a file')
from azureml.core import Dataset, Datastore
workspace = run.experiment.workspace
made = Dataset.File.upload_directory(out, (Datastore.get_default(workspace), 'from-run'), show_progress=False)
seen['version'] = made.register(workspace, 'from-run').version
seen['read'] = open(Dataset.get_by_name(workspace, 'from-run').download('back')[0]).read()
print('SEEN ' + json.dumps(seen))
"""


def test_what_flows_in_and_out(user: Script, folder: Path) -> None:
    (folder / "code" / "flow.py").write_text(FLOW.replace("\\\\n", "\\n"))
    for name in ("a.txt", "deep/b.txt"):
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_text(name)
    out = run(
        user,
        folder,
        WORKSPACE,
        """
import json
from azureml.core import Dataset, Experiment, ScriptRunConfig
from azureml.data import OutputFileDatasetConfig
from azureml.pipeline.core import PipelineData
store = ws.get_default_datastore()
store.upload('in', target_path='in', show_progress=False)
whole = Dataset.File.from_files((store, 'in/**'))
single = Dataset.File.from_files((store, 'in/a.txt'))
output = OutputFileDatasetConfig('output').register_on_complete('made', tags={'a': 'b'})
table = OutputFileDatasetConfig('table', destination=(store, 'tables/{run-id}')).read_delimited_files(separator=';')
table = table.register_on_complete('table')
data = PipelineData('data', datastore=store)
config = ScriptRunConfig('code', 'flow.py', arguments=[
    whole.as_named_input('folder').as_mount(), single.as_named_input('one').as_download(),
    store.path('in').as_download(), output, table, data])
config.run_config.environment_variables = {'MODEL_DIR': store.path('in/deep', data_reference_name='deep').as_mount(),
    'direct': single.as_named_input('direct')}
run = Experiment(ws, 'flow').submit(config)
run.wait_for_completion(show_output=True)
outputs = run.output_datasets
print('FOUND ' + json.dumps([Dataset.get_by_name(ws, 'made').to_path(), Dataset.get_by_name(ws, 'made').tags,
    Dataset.get_by_name(ws, 'table').preview().rows, outputs['data'].to_path(), outputs['data'].name,
    [o['path'] for o in run._load()['outputs'] if o['name'] == 'output'] == [f'dataset/{run.id}/output']]))
""",
    )
    seen = json.loads(next(line for line in out.splitlines() if line.startswith("SEEN "))[5:])
    assert seen.pop("variable").endswith("/inputs/deep")
    assert seen == {
        "folder": ["a.txt", "deep/b.txt"],
        "same": True,
        "names": ["/a.txt", "/deep/b.txt"],
        "kept": [5, 10],
        "one": "a.txt",
        "fetched": "a.txt",
        "place": ["a.txt", "deep"],
        "out": True,
        "direct": 1,
        "id": True,
        "write": "refused",
        "version": 1,
        "read": "made",
    }
    assert found(out) == [["/made.txt"], {"a": "b"}, [[1, 2]], ["/data"], None, True]


def test_figures_of_columns(user: Script, folder: Path) -> None:
    out = run(
        user,
        folder,
        WORKSPACE,
        """
import json
from azureml.core import Dataset
store = ws.get_default_datastore()
store.upload_files(['Titanic.csv'], target_path='figures', show_progress=False)
ds = Dataset.Tabular.from_delimited_files((store, 'figures/*.csv')).register(ws, 'figures')
nothing = ds.get_profile(generate_if_not_exist=False)
profile = ds.get_profile()
age = profile.columns['Age']
print('FOUND ' + json.dumps([nothing, profile.row_count, age.min, age.max, age.missing_count, sorted(profile.columns)]))
""",
    )
    columns = ["Age", "Name", "PassengerId", "Pclass", "Survived"]
    assert found(out) == [None, 4, 22, 38, 1, columns]


def test_a_signed_address_is_kept_by_the_studio_alone(user: Script, folder: Path, web: str) -> None:
    out = run(
        user,
        folder,
        WORKSPACE,
        f"""
import json
from azureml.core import Dataset
url = {web!r} + '/automl/UCI_Adult_train.csv?sv=2017-04-17&sig=ugQQCmeC2eBamm6ynM7wnI'
ds = Dataset.Tabular.from_delimited_files(url).register(ws, 'adult')
got = Dataset.get_by_name(ws, 'adult')
print('FOUND ' + json.dumps(['sig=' in json.dumps(got._row), got.to_pandas_dataframe().values.tolist(),
    got.filter(got['age'] > 40).to_pandas_dataframe().values.tolist()]))
""",
    )
    assert found(out) == [False, [[39, "State-gov"], [50, "Private"]], [[50, "Private"]]]


def test_the_command_line(user: Script, folder: Path, tmp_path: Path) -> None:
    def atelier(*words: str, code: int = 0) -> str:
        return user("-m", "atelier", *words, cwd=folder, code=code).stdout

    atelier("datastore", "upload", "Titanic.csv", "--to", "cli")
    assert "cli/Titanic.csv" in atelier("datastore", "ls", "cli")
    assert json.loads(atelier("datastore", "ls", "-R", "cli/", "--json"))[0]["size"] == len(TITANIC)
    assert "workspaceblobstore" in atelier("datastore", "list")
    assert json.loads(atelier("datastore", "show", "--json"))["is_default"]
    atelier("datastore", "download", "cli/", "--to", str(tmp_path / "back"))
    assert (tmp_path / "back" / "cli" / "Titanic.csv").read_text() == TITANIC
    assert atelier("dataset", "create", "cli", "cli/*.csv", "--tag", "a=b").startswith("cli:1  ")
    assert "cli" in atelier("dataset", "list") and "1" in atelier("dataset", "list", "cli")
    assert json.loads(atelier("dataset", "show", "cli:1", "--json"))["tags"] == {"a": "b"}
    assert "Cumings, Mrs. John" in atelier("dataset", "preview", "cli", "-n", "2")
    atelier("dataset", "download", "cli", "--to", str(tmp_path / "set"))
    assert (tmp_path / "set" / "Titanic.csv").read_text() == TITANIC
    atelier("dataset", "show", "nobody", code=1)
    (folder / "odd.csv").write_text("a,b\n1,2\n3\n4\n")
    assert "Uploaded 1 file\n" in atelier("datastore", "upload", "odd.csv", "--to", "cli")
    atelier("dataset", "create", "odd", "cli/odd.csv")
    assert "workspaceblobstore:cli/odd.csv, line 3: " in (told := atelier("dataset", "preview", "odd"))
    assert "(2 times)" in told


def test_the_way_into_a_script_is_short() -> None:
    """Neither a run's context nor a submit loads the data's evaluator."""
    code = (
        "import sys; from azureml.core import Run, Workspace, Experiment, ScriptRunConfig\n"
        "bad = [m for m in sys.modules if m.startswith(('atelier.data.engine', 'duckdb', 'pandas', 'pyarrow'))]\n"
        "print(bad)"
    )
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_azure_blobs_and_s3(user: Script, folder: Path, azurite: Any, s3_server: Any) -> None:
    """The page's two blobs, one public and one with a SAS, and datastores of a key and of a bucket."""
    azurite.container("automl", public=True).upload_blob("UCI_Adult_train.csv", b"age,workclass\n39,State-gov\n")
    azurite.container("testfiles").upload_blob("read_csv_duplicate_headers.csv", b"a,b,a,a\n1,2,3,4\n")
    expired = azurite.sas("testfiles", "r", begins=-7200, ends=-3600)
    s3_server.client().create_bucket(Bucket="bucket")
    out = run(
        user,
        folder,
        f"""
import azureml.dataprep as dprep

dataflow_public = dprep.read_csv(
    path='{azurite.url}/automl/UCI_Adult_train.csv')

dataflow_with_token = dprep.read_csv(
    path='{azurite.url}/testfiles/read_csv_duplicate_headers.csv?{azurite.sas("testfiles", "r")}')
""",
        WORKSPACE,
        f"""
import json, sys
from azureml.core import Dataset, Datastore, Environment, Experiment, ScriptRunConfig
from azureml.data import OutputFileDatasetConfig
from azureml.exceptions import UserErrorException
try:
    dprep.read_csv('{azurite.url}/testfiles/read_csv_duplicate_headers.csv?{expired}').head()
    refused = ''
except UserErrorException as error:
    refused = str(error)
blobs = Datastore.register_azure_blob_container(ws, 'blobs', 'testfiles', '{azurite.account}',
    account_key='{azurite.key}', endpoint='{azurite.url}')
s3 = Datastore.register_s3(ws, 'bucket', 'bucket', '{s3_server.access_key}', '{s3_server.secret_key}',
    endpoint='{s3_server.url}')
for store in (blobs, s3):
    store.upload_files(['Titanic.csv'], target_path='in', show_progress=False)
ds = Dataset.Tabular.from_delimited_files([(blobs, 'in/*.csv'), (s3, 'in/*.csv')], include_path=True)
frame = ds.to_pandas_dataframe()
(__import__('pathlib').Path('code') / 'carry.py').write_text('''
import os, sys, shutil
from azureml.core import Run
print("IN", sorted(os.listdir(sys.argv[1])), Run.get_context().input_datasets['table'].take(2).preview().rows)
shutil.copy(os.path.join(sys.argv[1], "Titanic.csv"), sys.argv[2])
''')
target = OutputFileDatasetConfig('copied', destination=(s3, 'out')).register_on_complete('from-s3')
source = Dataset.File.from_files((blobs, 'in/**')).as_named_input('blob').as_download()
run = Experiment(ws, 'clouds').submit(ScriptRunConfig('code', 'carry.py', arguments=[source, target,
    Dataset.Tabular.from_delimited_files((s3, 'in/*.csv')).as_named_input('table')]))
run.wait_for_completion(show_output=True)
print('FOUND ' + json.dumps([dataflow_public.head().values.tolist(), list(dataflow_with_token.head().columns), refused,
    type(blobs).__name__, type(s3).__name__, len(frame), Dataset.get_by_name(ws, 'from-s3').to_path(),
    [e['path'] for e in s3.files()], s3.download('got', 'out', show_progress=False), sorted(set(frame['Path']))]))
""",
    )
    got = found(out)
    assert got[0] == [[39, "State-gov"]] and got[1] == ["a", "b", "a_1", "a_2"]
    assert "403" in got[2] and "sig=" not in got[2]
    assert got[3:6] == ["AzureBlobDatastore", "S3Datastore", 8]
    assert got[6:] == [["/Titanic.csv"], ["in/Titanic.csv", "out/Titanic.csv"], 1, ["/in/Titanic.csv"]]
    assert "IN ['Titanic.csv'] [[1, 0, 3, 'Braund, Mr. Owen', 22], [2, 1, 1, 'Cumings, Mrs. John', 38]]" in out


@pytest.mark.postgres
def test_queries(user: Script, folder: Path) -> None:
    port = free_port()
    postgres = Postgres(port=port)
    try:
        if postgres.start() is None:
            missing("PostgreSQL", "Debian: apt-get install postgresql.")
        with psycopg.connect(host=str(postgres.home), port=port, user="atelier", dbname="postgres") as database:
            database.execute("create table many as select i as id, i % 3 as part from generate_series(1, 3000) as i")
        out = run(
            user,
            folder,
            WORKSPACE,
            f"""
import json
from azureml.core import Dataset, Datastore
from azureml.exceptions import UserErrorException
pg = Datastore.register_azure_postgre_sql(ws, 'pg', '127.0.0.1', 'postgres', 'atelier', 'any', {port},
    enforce_ssl=False)
ds = Dataset.Tabular.from_sql_query((pg, 'select * from many where id <= 300 order by id'), query_timeout=20)
part = ds.filter(ds['part'] == 1)
made = part.register(ws, 'queried')
try:
    Dataset.Tabular.from_sql_query((pg, 'select * from absent')).to_pandas_dataframe()
except UserErrorException as error:
    refused = str(error)
print('FOUND ' + json.dumps([len(ds.to_pandas_dataframe()), len(part.to_pandas_dataframe()), type(pg).__name__,
    Dataset.get_by_name(ws, 'queried').take(2).to_pandas_dataframe().values.tolist(), ds.preview(2).rows, refused]))
""",
        )
    finally:
        postgres.stop()
    got = found(out)
    assert got[:5] == [300, 100, "AzurePostgreSqlDatastore", [[1, 1], [4, 1]], [[1, 1], [2, 2]]]
    said = 'The database says: relation "absent" does not exist (at character 15).'
    assert got[5] == f"The result of the query on pg cannot be read: {said}"
